"use strict";
// As much of a document as the page's script needs to run without a browser: node page_stub.js STORY SCRIPT.
const fs = require("node:fs");
const vm = require("node:vm");

const [storyFile, scriptFile, idsFile] = process.argv.slice(2);
const listeners = {};

class Element {
  constructor(id) {
    Object.assign(this, { id, children: [], style: {}, options: [{}], attributes: {}, value: "", textContent: "" });
    Object.assign(this, { scrollTop: 0, clientHeight: 600, offsetHeight: 2000, hidden: false, className: "" });
    this.classList = { add: (name) => { this.className += ` ${name}`; } };
  }
  append(...parts) { this.children.push(...parts); }
  replaceChildren(...parts) { this.children = parts; }
  setAttribute(name, value) { this.attributes[name] = value; }
  addEventListener(kind, act) { listeners[`${this.id} ${kind}`] = act; }
  getContext() { return new Proxy({}, { get: () => () => undefined, set: () => true }); }
}

const ids = new Map(JSON.parse(fs.readFileSync(idsFile, "utf8")).map((id) => [id, new Element(id)]));
ids.get("story").textContent = fs.readFileSync(storyFile, "utf8");
const document = {
  documentElement: new Element("html"),
  getElementById: (id) => { if (!ids.has(id)) throw new Error(`no element ${id}`); return ids.get(id); },
  createElement: (tag) => new Element(tag),
  createElementNS: (_, tag) => new Element(tag),
  addEventListener: (kind, act) => { listeners[`document ${kind}`] = act; },
};
const window = { devicePixelRatio: 1, addEventListener: () => undefined };
const getComputedStyle = () => ({ getPropertyValue: () => "#000" });
const requestAnimationFrame = (act) => act();
const context = vm.createContext({ document, window, getComputedStyle, requestAnimationFrame, console });
vm.runInContext(fs.readFileSync(scriptFile, "utf8"), context);

const press = (key) => listeners["document keydown"]({ key, preventDefault() {}, target: { matches: () => false } });
const said = { begin: ids.get("position").textContent };
press("Home");
said.first = ids.get("position").textContent;
const steps = Number(ids.get("slider").max);
for (let step = 0; step < steps; step += 1) press("ArrowRight");
said.last = ids.get("position").textContent;
listeners["slider input"]({ target: { value: "1" } });
said.slider = ids.get("position").textContent;
for (const value of ["busy", "all", "selection"]) listeners["filter change"]({ target: { value } });
for (const key of ["-", "-", "-", "+", "PageDown", "PageUp", "End"]) press(key);
ids.get("find").value = "op 1";
listeners["find input"]();
said.found = ids.get("position").textContent;
listeners["verdict click"]();
said.violation = ids.get("details").children[0].textContent;
console.log(JSON.stringify(said));
