// HashiCorp's own client, measured in a process of its own; takes the orders of benchmarks/clients/measuring.py.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"
)

type order struct {
	Do        string `json:"do"`
	Operation string `json:"operation"`
	Argument  string `json:"argument"`
	Calls     int    `json:"calls"`
	Callers   int    `json:"callers"`
	Numbered  bool   `json:"numbered"`
}

type operation func(argument string) error

func cpu() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		log.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func latency(call operation, wanted order) map[string]float64 {
	if !wanted.Numbered {
		must(call(wanted.Argument))
	}
	times := make([]float64, 0, wanted.Calls)
	total, before := 0.0, cpu()
	for number := 0; number < wanted.Calls; number++ {
		argument := wanted.Argument
		if wanted.Numbered {
			argument += strconv.Itoa(number)
		}
		begun := time.Now()
		must(call(argument))
		took := time.Since(begun).Seconds()
		times, total = append(times, took), total+took
	}
	used := cpu() - before
	sort.Float64s(times)
	at := func(part float64) float64 {
		return times[min(len(times)-1, int(float64(len(times))*part))]
	}
	calls := float64(wanted.Calls)
	return map[string]float64{"p50": at(0.5), "p99": at(0.99), "cpu": used / calls, "rate": calls / total}
}

func callers(call operation, wanted order) map[string]float64 {
	together := func(calls int) {
		var all sync.WaitGroup
		for range wanted.Callers {
			all.Add(1)
			go func() {
				defer all.Done()
				for range calls {
					must(call(wanted.Argument))
				}
			}()
		}
		all.Wait()
	}
	together(1)
	begun, before := time.Now(), cpu()
	together(wanted.Calls)
	total := float64(wanted.Calls * wanted.Callers)
	return map[string]float64{"rate": total / time.Since(begun).Seconds(), "cpu": (cpu() - before) / total}
}

func main() {
	settings := api.DefaultConfig()
	settings.Address = os.Args[1] + ":" + os.Args[2]
	client, err := api.NewClient(settings)
	must(err)
	operations := map[string]operation{
		"resolve": func(service string) error {
			_, _, err := client.Health().Service(service, "", true, nil)
			return err
		},
		"services": func(string) error {
			_, _, err := client.Catalog().Services(nil)
			return err
		},
		"register": func(id string) error {
			check := &api.AgentServiceCheck{TTL: "600s"}
			return client.Agent().ServiceRegister(
				&api.AgentServiceRegistration{Name: "stormy", ID: id, Port: 8080, Check: check})
		},
		"deregister": client.Agent().ServiceDeregister,
	}
	measures := map[string]func(operation, order) map[string]float64{"latency": latency, "callers": callers}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var wanted order
		must(json.Unmarshal(lines.Bytes(), &wanted))
		told, err := json.Marshal(measures[wanted.Do](operations[wanted.Operation], wanted))
		must(err)
		fmt.Println(string(told))
	}
}
