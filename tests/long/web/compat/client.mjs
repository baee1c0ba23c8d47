// Drives the official Socket.IO client for the tests: orders come in as JSON lines, whatever happens goes out as such.
//   node client.mjs DIRECTORY      with node_modules/socket.io-client in DIRECTORY

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { io } = createRequire(process.argv[2] + "/")("socket.io-client");
const sockets = new Map();
const tell = (told) => process.stdout.write(JSON.stringify(told) + "\n");

const orders = {
  // Whoever registers does it again whenever the connection is back, as an application would.
  connect({ as, url, me, options }) {
    const socket = io(url, { forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200, ...options });
    sockets.set(as, socket);
    socket.on("connect", () => socket.emit("register", me, (data) => tell({ as, event: "registered", data })));
    socket.on("disconnect", (data) => tell({ as, event: "disconnect", data }));
    socket.onAny((event, data) => tell({ as, event, data }));
  },
  emit({ as, event, payload }) {
    sockets.get(as).emit(event, payload, (data) => tell({ as, event: "answer", data }));
  },
  // Runs the documented example, in a page that has what it uses.
  run({ as, file, token }) {
    const hear = (event) => (...data) => tell({ as, event, data });
    const console = { log: hear("log"), warn: hear("warn") };
    Object.assign(globalThis, { token, console, show: hear("show"), tick: hear("tick"), remember: hear("remember") });
    globalThis.document = { hidden: false };
    import(file).catch((error) => tell({ as, event: "failed", data: `${error}` }));
  },
  hide() {
    document.hidden = true;
    document.onvisibilitychange();
  },
  disconnect: ({ as }) => sockets.get(as).disconnect(),
  drop: ({ as }) => sockets.get(as).io.engine.close(), // the connection only: the client comes back by itself
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const order = JSON.parse(line);
  orders[order.do](order);
}).on("close", () => process.exit(0));
