// @huggingface/jinja, which transformers.js and the pages of the hub use: render a template for each chat.
//
//     node render.mjs TEMPLATE < {"chats": [messages, ...]} > {"version": ..., "rendered": [text, ...], "refused": text}

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [template, modules] = process.argv.slice(2);
const require = createRequire(join(modules, "index.js"));
const { Template } = require("@huggingface/jinja");
const { chats } = JSON.parse(readFileSync(0, "utf8"));
const compiled = new Template(readFileSync(template, "utf8"));
const render = (messages) => compiled.render({ messages, add_generation_prompt: true });
let refused = "";
try {
  render([{ role: "tool", content: "3" }]);
} catch (fault) {
  refused = fault.message;
}
const packageFile = join(modules, "node_modules/@huggingface/jinja/package.json");
const { version } = JSON.parse(readFileSync(packageFile, "utf8"));
console.log(JSON.stringify({ version, rendered: chats.map(render), refused }));
