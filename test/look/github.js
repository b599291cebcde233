// What GitHub does with the HTML that its Markdown program makes, as far as it is known: the sanitiser by its allowlist,
// then passes over the text that is left. Runs in a browser, whose parser decides what the HTML is.
"use strict";

const elements = new Set(("h1 h2 h3 h4 h5 h6 h7 h8 br b i strong em a pre code img tt div ins del sup sub p ol ul table thead tbody tfoot " +
	"blockquote dl dt dd kbd q samp var hr ruby rt rp li tr td th s strike summary details caption figure figcaption abbr bdo cite dfn " +
	"mark small span time wbr").split(" "));

const attributes = new Set(("abbr accept accept-charset accesskey action align alt axis border cellpadding cellspacing char charoff charset " +
	"checked clear cols colspan color compact coords datetime dir disabled enctype for frame headers height hreflang hspace ismap label lang " +
	"maxlength media method multiple name nohref noshade nowrap open prompt readonly rel rev rows rowspan rules scope selected shape size " +
	"span start summary tabindex target title type usemap valign value vspace width itemprop").split(" "));

const addresses = {
	a: {href: ["http:", "https:", "mailto:"]},
	img: {src: ["http:", "https:"], longdesc: ["http:", "https:"]},
	blockquote: {cite: ["http:", "https:"]}, del: {cite: ["http:", "https:"]}, ins: {cite: ["http:", "https:"]}, q: {cite: ["http:", "https:"]},
};

const parse = html => new DOMParser().parseFromString("<!doctype html><body>" + html, "text/html").body;

const name = element => element.localName;

// unwrap leaves the children in the place of an element.
const unwrap = element => element.replaceWith(...element.childNodes);

// sanitise removes what GitHub removes, and returns a word for each thing that it removed.
function sanitise(body) {
	const removed = [];
	const comments = document.createTreeWalker(body, NodeFilter.SHOW_COMMENT), found = [];
	while (comments.nextNode()) found.push(comments.currentNode);
	for (const comment of found) {
		removed.push("comment");
		comment.remove();
	}
	for (const e of [...body.querySelectorAll("*")].reverse()) {
		if (name(e) == "script" || e.namespaceURI != "http://www.w3.org/1999/xhtml") {
			removed.push("<" + name(e) + "> and what is in it");
			e.remove();
			continue;
		}
		const inTable = e.parentElement.closest("table"), inList = e.parentElement.closest("ul, ol");
		const stray = name(e) == "li" && !inList || ["thead", "tbody", "tfoot", "tr", "td", "th"].includes(name(e)) && !inTable;
		if (!elements.has(name(e)) || stray) {
			removed.push("<" + name(e) + ">");
			unwrap(e);
			continue;
		}
		for (const {name: attribute, value} of [...e.attributes]) {
			const schemes = addresses[name(e)]?.[attribute];
			let fine = attributes.has(attribute) || name(e) == "div" && ["itemscope", "itemtype"].includes(attribute);
			if (schemes) {
				const scheme = /^\s*([^/#?]*?)(:|&#0*58|&#x0*3a)/i.exec(value);
				fine = !scheme || schemes.includes(scheme[1].toLowerCase() + ":");
			}
			if (!fine) {
				removed.push(`${attribute} of <${name(e)}>`);
				e.removeAttribute(attribute);
			}
		}
	}
	return removed;
}

// shape is the tree of elements, a line for each, with all attributes and without any text.
function shape(body) {
	const lines = [];
	const visit = (e, depth) => {
		const list = [...e.attributes].map(a => `${a.name}=${JSON.stringify(a.value)}`).sort();
		lines.push("  ".repeat(depth) + [name(e), ...list].join(" "));
		for (const child of e.children) visit(child, depth + 1);
	};
	for (const child of body.children) visit(child, 0);
	return lines.join("\n");
}

// Signs that GitHub's later passes look for, by what they make of them. They look at the text as a person sees it, so
// that a character reference or a backslash hides nothing from them; they leave out <pre>, <code> and links.
const signs = {
	mention: /(?<![\w`])@[a-z0-9][a-z0-9-]*/gi,
	reference: /(?<![\w`&])#\d+\b|\bGH-\d+\b/gi,
	emoji: /:[a-z0-9_+-]+:/gi,
	commit: /\b[0-9a-f]{7,40}\b/g,
	mathematics: /\$[^\s$][^$\n]*\$|\$\$[^$]+\$\$/g,
	link: /\b(https?:\/\/|www\.)\S+/gi,
};

function reached(body) {
	const found = [];
	const walker = document.createTreeWalker(body, NodeFilter.SHOW_TEXT);
	while (walker.nextNode()) {
		const node = walker.currentNode;
		if (node.parentElement.closest("pre, code, a, tt")) continue;
		for (const [kind, sign] of Object.entries(signs)) {
			for (const [match] of node.data.matchAll(sign)) {
				if (kind == "commit" && !/\d/.test(match)) continue;
				found.push(kind + " " + match);
			}
		}
	}
	return found;
}

const cells = row => [...row.cells].reduce((sum, cell) => sum + cell.colSpan, 0);

// github is all that there is to know about a piece of HTML.
function github(html) {
	const raw = parse(html), body = parse(html), rawText = raw.innerHTML;
	const removed = sanitise(body);
	const tables = [...body.querySelectorAll("table")].map(table => [...table.rows].map(cells));
	const diagrams = [...body.querySelectorAll('pre[lang="mermaid"]')].map(pre => pre.textContent);
	return {
		HTML: body.innerHTML, Raw: rawText, Removed: removed, Shape: shape(body), Text: body.textContent, Tables: tables, Diagrams: diagrams,
		Headings: [...body.querySelectorAll("h1, h2, h3, h4, h5, h6")].map(h => name(h) + " " + h.textContent),
		Folds: [...body.querySelectorAll("details > summary")].map(s => s.textContent),
		Reached: reached(body),
	};
}

// draw turns the blocks of mermaid on this page into diagrams, as GitHub does, and gives the complaints.
async function draw(dark) {
	const complaints = [];
	mermaid.initialize({startOnLoad: false, securityLevel: "strict", theme: dark ? "dark" : "default"});
	let n = 0;
	for (const pre of document.querySelectorAll('.markdown-body pre[lang="mermaid"]')) {
		try {
			const {svg} = await mermaid.render("diagram-" + n++, pre.textContent);
			const box = document.createElement("div");
			box.className = "diagram";
			box.innerHTML = svg;
			pre.replaceWith(box);
		} catch (e) {
			complaints.push(String(e.message ?? e));
		}
	}
	return complaints;
}
