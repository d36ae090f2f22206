// Node's client of Consul, measured in a process of its own; takes the orders of benchmarks/clients/measuring.py.
import { createInterface } from "node:readline";
import http from "node:http";
import Consul from "consul";

const [host, port] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
const consul = new Consul({ host, port: Number(port), agent });
const check = { ttl: "600s" };
const operations = {
  resolve: (service) => consul.health.service({ service, passing: true }),
  services: () => consul.catalog.service.list(),
  register: (id) => consul.agent.service.register({ name: "stormy", id, port: 8080, check }),
  deregister: (id) => consul.agent.service.deregister(id),
};

const now = () => Number(process.hrtime.bigint()) / 1e9;
const cpu = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1e6; };

async function latency({ operation, calls, argument = "", numbered = false }) {
  const call = operations[operation];
  if (!numbered) await call(argument);
  const times = [];
  const before = cpu();
  for (let number = 0; number < calls; number++) {
    const begun = now();
    await call(numbered ? argument + number : argument);
    times.push(now() - begun);
  }
  const used = cpu() - before;
  const total = times.reduce((sum, one) => sum + one, 0);
  times.sort((one, other) => one - other);
  const at = (part) => times[Math.min(times.length - 1, Math.floor(times.length * part))];
  return { p50: at(0.5), p99: at(0.99), cpu: used / calls, rate: calls / total };
}

async function callers({ operation, calls, callers: number, argument = "" }) {
  const call = operations[operation];
  const all = Array.from({ length: number });
  await Promise.all(all.map(() => call(argument)));
  const begun = now(), before = cpu();
  await Promise.all(all.map(async () => { for (let one = 0; one < calls; one++) await call(argument); }));
  const total = calls * number;
  return { rate: total / (now() - begun), cpu: (cpu() - before) / total };
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: what, ...order } = JSON.parse(line);
  const result = await { latency, callers }[what](order);
  process.stdout.write(JSON.stringify(result) + "\n");
}
