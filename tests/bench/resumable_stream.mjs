// The other side of `make bench ARGS=streams`: npm's resumable-stream, told what to do as tests/bench/streams.py is.
// Usage: node resumable_stream.mjs ROLE SCENARIO ID URL, beside a folder node_modules that has it and `redis`.
import { createResumableStreamContext } from "resumable-stream";
import { createClient } from "redis";
import { createInterface } from "node:readline";

const [role, scenario, id, url] = process.argv.slice(2);
const { streams, chunks, pause, after = 0 } = JSON.parse(scenario);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (told) => process.stdout.write(JSON.stringify(told) + "\n");
const now = () => performance.timeOrigin + performance.now();
const publisher = await createClient({ url }).connect();
const subscriber = await createClient({ url }).connect();
const context = createResumableStreamContext({
  waitUntil: null, keyPrefix: id,
  publisher: { connect: async () => {}, publish: (c, m) => publisher.publish(c, m), set: (k, v, o) => publisher.set(k, v, o),
    get: (k) => publisher.get(k), incr: (k) => publisher.incr(k) },
  subscriber: { connect: async () => {}, subscribe: (c, f) => subscriber.subscribe(c, f), unsubscribe: (c) => subscriber.unsubscribe(c) },
});

async function drain(stream, heard) {
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard(value);
  }
}

function source(go, number) {
  return () => new ReadableStream({
    async start(controller) {
      await go;
      const start = now() + pause * 1000 * number / streams; // no two of them in step, nor do they fall into it
      for (let each = 0; each < chunks; each++) {
        if (pause) await new Promise((next) => setTimeout(next, Math.max(start + each * pause * 1000 - now(), 0)));
        controller.enqueue(`data: ${now().toFixed(3).padStart(24)}\n\n`);
      }
      controller.close();
    },
  });
}

async function produce() {
  let start;
  const go = new Promise((met) => { start = met; });
  const made = [];
  for (let each = 0; each < streams; each++) {
    made.push(await context.createNewResumableStream(`${id}-${each}`, source(go, each)));
  }
  const late = [];
  const heard = (text) => { if (pause) late.push(now() - Number(text.slice(6))); };
  const over = Promise.all(made.map((stream) => drain(stream, heard)));
  say("ready");
  await lines.next();
  const cpu = process.cpuUsage(), began = now();
  start();
  await over;
  const used = process.cpuUsage(cpu);
  late.sort((a, b) => a - b);
  say({ began, cpu: (used.user + used.system) / 1e6, own: late[late.length >> 1] ?? 0 });
  await lines.next(); // what it has to publish goes out after its own reader is done
}

async function follow(viewers) {
  const late = [];
  let bytes = 0;
  const heard = (text) => {
    bytes += text.length;
    if (pause) for (const found of text.matchAll(/data: +([\d.]+)/g)) late.push(now() - Number(found[1]));
  };
  const made = [];
  for (let each = 0; each < streams * viewers; each++) {
    made.push(await context.resumeExistingStream(`${id}-${each % streams}`));
  }
  say("ready");
  await Promise.all(made.map((stream) => drain(stream, heard)));
  late.sort((a, b) => a - b);
  const at = (share) => late[Math.floor(late.length * share)] ?? 0;
  say({ ended: now(), bytes, p50: at(0.5), p99: at(0.99) });
}

// A stream that goes on, of which so much is there already, for whoever resumes it.
async function hold() {
  let end;
  const held = new Promise((met) => { end = met; });
  const stream = await context.createNewResumableStream(`${id}-0`, () => new ReadableStream({
    async start(controller) {
      for (let each = 0; each < chunks; each++) controller.enqueue(`data: ${now().toFixed(3).padStart(24)}\n\n`);
      await held;
      controller.close();
    },
  }));
  drain(stream, () => {});
  await new Promise((next) => setTimeout(next, 300));
  say("ready");
  await lines.next();
  end();
  await new Promise((next) => setTimeout(next, 200));
  say({});
}

async function resume() {
  const began = now();
  const stream = await context.resumeExistingStream(`${id}-0`, after);
  const reader = stream.getReader();
  let bytes = 0, first = 0;
  while (bytes < chunks * 32 - after) {
    const { done, value } = await reader.read();
    if (done) break;
    first ||= now();
    bytes += value.length;
  }
  say({ first: first - began, all: now() - began, bytes });
}

await { produce, follow: () => follow(1), crowd: () => follow(100), hold, resume }[role]();
process.exit(0);
