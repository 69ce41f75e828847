// Node's Redis client, as it is, against toykv-server: client.cjs PORT.
"use strict";
const assert = require("node:assert");
const { createClient } = require("redis");

async function check(RESP) {
  const client = createClient({ socket: { port: Number(process.argv[2]) }, RESP });
  client.on("error", error => { throw error; });
  await client.connect();
  await client.flushDb();
  assert.equal(await client.set("a", "1"), "OK");
  assert.equal(await client.get("a"), "1");
  assert.equal(await client.get("nothing"), null);
  assert.equal(await client.set("a", "2", { condition: "NX" }), null);
  assert.equal(await client.incrBy("a", 41), 42);
  assert.deepEqual(await client.mGet(["a", "x"]), ["42", null]);
  // Commands of one turn of the event loop go out as one pipeline.
  const numbers = Array.from({ length: 500 }, (_, number) => number);
  await Promise.all(numbers.map(number => client.set(`key:${number}`, String(number))));
  const found = [];
  for await (const keys of client.scanIterator({ MATCH: "key:*", COUNT: 33 })) found.push(...keys);
  assert.equal(new Set(found).size, 500);
  assert.equal(await client.dbSize(), 501);
  const get = (await client.command()).find(command => command.name === "get");
  assert.ok(get.categories.has("@read"));
  assert.equal(await client.del(found), 500);
  await assert.rejects(client.lPush("list", "1"), /unknown command/);
  await client.close();
}

check(2).then(() => check(3)).catch(error => { console.error(error); process.exit(1); });
