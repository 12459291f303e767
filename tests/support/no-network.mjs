// Loaded before a command, in its workers too: writes down every attempt to look up a name or to reach another process,
// into the file that NO_NETWORK_REPORT names.
import dgram from "node:dgram";
import dns from "node:dns";
import { appendFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import net from "node:net";

const report = (what, details) =>
  appendFileSync(process.env.NO_NETWORK_REPORT, `${what} ${JSON.stringify(details[0] ?? null)}\n`);

/** Replaces methods by ones that report and go on; http, https, tls and fetch all end in these. */
function watch(object, name, methods) {
  for (const method of methods) {
    const original = object[method];
    if (typeof original !== "function") continue;
    object[method] = function (...args) {
      report(`${name}.${method}`, args);
      return original.apply(this, args);
    };
  }
}

watch(net.Socket.prototype, "net.Socket", ["connect"]);
watch(net.Server.prototype, "net.Server", ["listen"]);
watch(dgram.Socket.prototype, "dgram.Socket", ["bind", "connect", "send"]);
watch(dns, "dns", ["lookup", "resolve", "resolve4", "resolve6", "resolveAny"]);
watch(dns.promises, "dns.promises", ["lookup", "resolve", "resolve4", "resolve6", "resolveAny"]);
syncBuiltinESMExports();
