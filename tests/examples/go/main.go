// Registers a service with HashiCorp's own client, or tells where one is.
//
//	program register NAME ID ADDRESS PORT
//	program find NAME
//
// The agent is whom CONSUL_HTTP_ADDR names.
package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/hashicorp/consul/api"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	client, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		return err
	}
	switch {
	case len(args) == 5 && args[0] == "register":
		port, err := strconv.Atoi(args[4])
		if err != nil {
			return err
		}
		return client.Agent().ServiceRegister(&api.AgentServiceRegistration{
			Name:    args[1],
			ID:      args[2],
			Address: args[3],
			Port:    port,
			Tags:    []string{"go", "v1"},
			Meta:    map[string]string{"language": "go"},
			Weights: &api.AgentWeights{Passing: 7, Warning: 2},
			Check:   &api.AgentServiceCheck{TTL: "60s", Status: api.HealthPassing},
		})
	case len(args) == 2 && args[0] == "find":
		entries, _, err := client.Health().Service(args[1], "", true, nil)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			service := entry.Service
			fmt.Printf("%s %s:%d %v %s %d %s\n", service.ID, service.Address, service.Port, service.Tags,
				service.Meta["language"], service.Weights.Passing, entry.Checks.AggregatedStatus())
		}
		return nil
	}
	return fmt.Errorf("usage: register NAME ID ADDRESS PORT | find NAME")
}
