// Measures how fast cr-sqlite (WebAssembly, database in memory) merges changes of a table with an integer key and three columns:
// rows that are new, then newer values of all columns. Prints changes a second as JSON.
import fs from 'node:fs';
import * as SQLite from '@vlcn.io/wa-sqlite';

const dist = './node_modules/@vlcn.io/wa-sqlite/dist/crsqlite-sync';
const { default: factory } = await import(dist + '.mjs');
const module = await factory({ wasmBinary: fs.readFileSync(dist + '.wasm') });
const s = SQLite.Factory(module);
const rows = Number(process.argv[2]);

async function open() {
  const db = await s.open_v2(':memory:', SQLite.SQLITE_OPEN_CREATE | SQLite.SQLITE_OPEN_READWRITE);
  await s.exec(db, "create table t(id integer primary key not null, a text, b integer, c text); select crsql_as_crr('t')");
  return db;
}

// each runs a prepared statement for every list of values, in one transaction.
async function each(db, sql, lists) {
  const text = s.str_new(db, sql);
  const { stmt } = await s.prepare_v2(db, s.str_value(text));
  await s.exec(db, 'begin');
  for (const list of lists) {
    s.bind_collection(stmt, list);
    await s.step(stmt);
    await s.reset(stmt);
  }
  await s.exec(db, 'commit');
  await s.finalize(stmt);
  s.str_finish(text);
}

async function changes(db, after) {
  const out = [];
  for await (const stmt of s.statements(db, `select "table",pk,cid,val,col_version,db_version,site_id,cl,seq from crsql_changes where db_version>${after}`)) {
    while (await s.step(stmt) === SQLite.SQLITE_ROW) {
      out.push(s.row(stmt).map(x => x instanceof Uint8Array || x instanceof Int8Array ? new Uint8Array(x) : x));
    }
  }
  return out;
}

async function merge(db, list) {
  const start = performance.now();
  await each(db, 'insert into crsql_changes("table",pk,cid,val,col_version,db_version,site_id,cl,seq) values(?,?,?,?,?,?,?,?,?)', list);
  return list.length / (performance.now() - start) * 1000;
}

async function version(db) {
  for await (const stmt of s.statements(db, 'select crsql_db_version()')) {
    if (await s.step(stmt) === SQLite.SQLITE_ROW) return s.row(stmt)[0];
  }
}

const from = await open(), to = await open();
const keys = Array.from({ length: rows }, (_, i) => i);
await each(from, 'insert into t values(?,?,?,?)', keys.map(i => [i, 'name-' + i, i, 'some text value ' + i]));
const fresh = await changes(from, 0);
const before = await version(from);
const rates = { New: await merge(to, fresh) };
await each(from, "update t set a=a||'x', b=b+1, c=c||'x' where id=?", keys.map(i => [i]));
const newer = await changes(from, before);
rates.Newer = await merge(to, newer);
if (fresh.length !== 3 * rows || newer.length !== 3 * rows) throw new Error(`${fresh.length} and ${newer.length} changes of ${rows} rows`);
for (const sql of ["select count(*), sum(b) from t where a like '%x'"]) {
  for await (const stmt of s.statements(to, sql)) {
    await s.step(stmt);
    const [count, sum] = s.row(stmt);
    if (count !== rows || sum !== rows * (rows + 1) / 2) throw new Error(`the merged table has ${count} rows, sum ${sum}`);
  }
}
console.log(JSON.stringify(rates));
