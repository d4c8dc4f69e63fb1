// Compiles LeaderLogs.sol and prints bytecode and ABI as JSON: node compile.mjs [folder of solc].
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const require = createRequire(process.argv[2] ? `${process.argv[2]}/` : import.meta.url);
const solc = require("solc");
const source = fileURLToPath(new URL("LeaderLogs.sol", import.meta.url));
const input = {
  language: "Solidity",
  sources: { "LeaderLogs.sol": { content: readFileSync(source, "utf8") } },
  settings: {
    evmVersion: "paris",
    optimizer: { enabled: true, runs: 200 },
    viaIR: true,
    metadata: { bytecodeHash: "none" },
    outputSelection: { "*": { LeaderLogs: ["abi", "evm.bytecode.object"] } },
  },
};
const made = JSON.parse(solc.compile(JSON.stringify(input)));
const failed = (made.errors || []).filter((e) => e.severity === "error");
if (failed.length) {
  console.error(failed.map((e) => e.formattedMessage).join("\n"));
  process.exit(1);
}
const contract = made.contracts["LeaderLogs.sol"].LeaderLogs;
const told = { solc: solc.version(), abi: contract.abi, bytecode: "0x" + contract.evm.bytecode.object };
console.log(JSON.stringify(told));
