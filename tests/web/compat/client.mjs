// Drives the official Socket.IO client for the tests: orders come in as JSON lines, whatever happens goes out as JSON lines.
//   node client.mjs DIRECTORY      with node_modules/socket.io-client in DIRECTORY

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { io } = createRequire(process.argv[2] + "/")("socket.io-client");
const sockets = new Map();
const tell = (told) => process.stdout.write(JSON.stringify(told) + "\n");

const orders = {
  connect({ as, url, options }) {
    const socket = io(url, { forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200, ...options });
    sockets.set(as, socket);
    socket.on("connect", () => tell({ as, event: "connect", data: socket.io.engine.transport.name }));
    socket.on("connect_error", (error) => tell({ as, event: "connect_error", data: error.message }));
    socket.on("disconnect", (reason) => tell({ as, event: "disconnect", data: reason }));
    socket.onAny((event, data) => tell({ as, event, data }));
  },
  // Whoever registers once does it again whenever the connection is back, as an application would.
  register({ as, payload, ref }) {
    const socket = sockets.get(as);
    const register = () => socket.emit("register", payload, (data) => tell({ as, event: "registered", data, ref }));
    socket.on("connect", register);
    if (socket.connected) register();
  },
  emit({ as, event, payload, dated, ref, times = 1 }) {
    const sent = dated ? { ...payload, timestamp: new Date(dated) } : payload;
    for (; times > 0; times--) sockets.get(as).emit(event, sent, (data) => tell({ as, event: "answer", data, ref }));
  },
  // Runs the documented example, in a page that has what it uses.
  run({ as, file, token }) {
    const hear = (event) => (...data) => tell({ as, event, data });
    const console = { log: hear("log"), warn: hear("warn") };
    Object.assign(globalThis, { token, console, show: hear("show"), tick: hear("tick"), remember: hear("remember") });
    globalThis.document = { hidden: false };
    import(file).then(() => tell({ as, event: "running" }), (error) => tell({ as, event: "failed", data: `${error}` }));
  },
  echo({ ref }) {
    tell({ as: "", event: "echo", ref });
  },
  hide() {
    document.hidden = true;
    document.onvisibilitychange();
  },
  disconnect({ as }) {
    sockets.get(as)?.disconnect();
    sockets.delete(as);
  },
  drop({ as }) {
    sockets.get(as).io.engine.close(); // the connection only: the client comes back by itself
  },
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const order = JSON.parse(line);
  orders[order.do](order);
}).on("close", () => process.exit(0));
tell({ as: "", event: "ready" });
