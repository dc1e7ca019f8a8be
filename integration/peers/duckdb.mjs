// Runs one statement and prints its rows: a line each, tabs between the values, texts as
// they are and everything else as JSON.
import { DuckDBInstance } from "@duckdb/node-api";

const connection = await (await DuckDBInstance.create(":memory:")).connect();
const result = await connection.runAndReadAll(process.argv[2]);
const text = (v) => (typeof v === "string" ? v : JSON.stringify(v));
for (const row of result.getRowsJson()) console.log(row.map(text).join("\t"));
