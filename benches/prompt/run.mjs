// Runs a WASI command; its clock tells processor time, and the last line that it
// prints is the size of the memory that it ended with.
import { readFile } from 'node:fs/promises';
import { WASI } from 'node:wasi';

const [module, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: 'preview1', args: [module, ...args], preopens: { '/': '/' }, returnOnExit: true });
const compiled = await WebAssembly.compile(await readFile(module));
let memory;
const imports = wasi.getImportObject();
imports.wasi_snapshot_preview1.clock_time_get = (id, precision, at) => {
  const { user, system } = process.cpuUsage();
  new DataView(memory.buffer).setBigUint64(at, BigInt(user + system) * 1000n, true);
  return 0;
};
const instance = await WebAssembly.instantiate(compiled, imports);
memory = instance.exports.memory;
process.exitCode = wasi.start(instance);
console.log(memory.buffer.byteLength);
