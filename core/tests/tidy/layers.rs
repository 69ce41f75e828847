//! Imports: down the layers only, and in no circle, at the top and inside every folder.
//!
//! An import is any path from `crate`, `super` or `self` in the production code of core/src. What a
//! module merely re-exports is looked through: the import is of the module that has it.

use std::collections::{BTreeMap, BTreeSet};

use crate::Source;
use crate::source::{is_word, words};

/// The layer of every module at the top of core/src.
const LAYERS: &[(usize, &[&str])] = &[
    (
        0,
        &[
            "types", "error", "options", "coding", "compress", "checksum", "key", "planted",
            "prefetch", "report", "budget",
        ],
    ),
    (1, &["fs", "filename", "buffer", "cache"]),
    (2, &["iter", "record"]),
    (3, &["batch", "memtable", "table", "vlog"]),
    (4, &["version"]),
    (5, &["engine"]),
    (6, &["db", "handle", "hostile", "repair", "scan", "snapshot", "value", "sim"]),
];

/// The layer whose modules never import each other.
const SIBLINGS: usize = 3;

/// Files of core/src/engine that hold what verbs share; every other file there is a verb.
const ENGINE_SHARED: &[&str] = &[
    "state",
    "view",
    "lookup",
    "cursor",
    "run_cursor",
    "retain",
    "run_writer",
    "count",
    "pick",
    "pick_files",
    "dropped",
    "rewrite",
    "audit",
    "recount",
    "directory",
    "obsolete",
    "hooks",
    "locks",
    "wake",
    "stall",
    "counters",
    "writer",
];

/// Files of core/src/engine that may import verbs.
const ENGINE_CALLERS: &[&str] = &["open", "close", "background"];

/// The name of a folder's own file in the graph of that folder.
const OWN: &str = "(mod)";

type ModulePath = Vec<String>;

/// One import, from the file of a module to a module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Import {
    file: String,
    from: ModulePath,
    to: ModulePath,
}

/// Complaints about the imports in core/src.
pub(crate) fn check(files: &[Source]) -> Vec<String> {
    let (imports, mut complaints) = imports(files);
    for import in &imports {
        complaints.extend(check_layers(import));
        complaints.extend(check_engine(import));
    }
    complaints.extend(circles(&imports));
    complaints
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().find(|(_, modules)| modules.contains(&module)).map(|&(layer, _)| layer)
}

fn check_layers(import: &Import) -> Option<String> {
    let (from, to) = (import.from.first()?, import.to.first()?);
    let file = &import.file;
    if from == to {
        return None;
    }
    let Some(above) = layer(from) else {
        return Some(format!("{file}: module {from} has no layer in the table"));
    };
    let Some(below) = layer(to) else {
        return Some(format!("{file}: module {to} has no layer in the table"));
    };
    if above < below {
        return Some(format!("{file}: {from} (L{above}) imports {to} (L{below})"));
    }
    (above == below && above == SIBLINGS)
        .then(|| format!("{file}: siblings never import each other, {from} imports {to}"))
}

fn check_engine(import: &Import) -> Option<String> {
    let [engine, from, ..] = &import.from[..] else { return None };
    let [other, to, ..] = &import.to[..] else { return None };
    if engine != "engine" || other != "engine" || from == to {
        return None;
    }
    let (from, to) = (from.as_str(), to.as_str());
    let allowed = ENGINE_CALLERS.contains(&from) || ENGINE_SHARED.contains(&to);
    let file = &import.file;
    (!allowed).then(|| format!("{file}: engine/{from} imports engine/{to}"))
}

/// One complaint for each circle, in the folder where it closes.
fn circles(imports: &[Import]) -> Vec<String> {
    let mut folders: BTreeMap<ModulePath, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for Import { from, to, .. } in imports {
        let shared = from.iter().zip(to).take_while(|(a, b)| a == b).count();
        let node = |path: &ModulePath| path.get(shared).cloned().unwrap_or(OWN.into());
        let (source, target) = (node(from), node(to));
        if source != target {
            let folder = folders.entry(from[..shared].to_vec()).or_default();
            folder.entry(source).or_default().insert(target);
        }
    }
    let mut complaints = Vec::new();
    for (folder, graph) in &folders {
        if let Some(circle) = find_circle(graph) {
            let folder = folder.join("/");
            complaints.push(format!("core/src/{folder}: a circle: {}", circle.join(" -> ")));
        }
    }
    complaints
}

/// Takes away what imports nothing that is left, again and again; what stays has a circle in it.
fn find_circle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut left = graph.clone();
    loop {
        let nodes: BTreeSet<String> = left.keys().cloned().collect();
        let before = nodes.len();
        left.retain(|_, targets| targets.iter().any(|target| nodes.contains(target)));
        if left.len() == before {
            break;
        }
    }
    let mut path = vec![left.keys().next()?.clone()];
    loop {
        let targets = &left[path.last()?];
        let next = targets.iter().find(|target| left.contains_key(*target))?.clone();
        let seen = path.iter().position(|node| *node == next);
        path.push(next);
        if let Some(start) = seen {
            return Some(path.split_off(start));
        }
    }
}

/// What is known of the modules while paths are resolved.
struct Modules {
    known: BTreeSet<ModulePath>,
    /// Re-exported names of a module, and where each comes from.
    exports: BTreeMap<(ModulePath, String), ModulePath>,
}

/// Every import in the production code of core/src, and complaints about those of everything.
fn imports(files: &[Source]) -> (Vec<Import>, Vec<String>) {
    let mut parsed = Vec::new();
    let mut modules = Modules { known: BTreeSet::new(), exports: BTreeMap::new() };
    for file in files {
        let Some(module) = module_path(&file.path) else { continue };
        let code = file.code();
        let (exports, rest) = take_exports(file.production(&code));
        for path in exports.iter().flat_map(|tree| expand(tree)) {
            if let Some(name) = path.last() {
                let from = path[..path.len() - 1].to_vec();
                modules.exports.insert((module.clone(), name.clone()), from);
            }
        }
        modules.known.insert(module.clone());
        parsed.push((file.path.clone(), module, rest));
    }
    let (mut imports, mut complaints) = (BTreeSet::new(), Vec::new());
    for (file, from, code) in parsed {
        for path in paths(&code) {
            if path == ["crate", "*"] {
                complaints.push(format!("{file}: imports everything from the crate's root"));
                continue;
            }
            let to = modules.resolve(&from, &path);
            if !to.is_empty() && to != from {
                imports.insert(Import { file: file.clone(), from: from.clone(), to });
            }
        }
        for path in child_paths(&code, &from, &modules.known) {
            imports.insert(Import { file: file.clone(), from: from.clone(), to: path });
        }
    }
    (imports.into_iter().collect(), complaints)
}

/// The module of a file of core/src; empty for lib.rs.
fn module_path(path: &str) -> Option<ModulePath> {
    let path = path.strip_prefix("core/src/")?.strip_suffix(".rs")?;
    let path = path.strip_suffix("/mod").unwrap_or(path);
    Some(if path == "lib" { Vec::new() } else { path.split('/').map(String::from).collect() })
}

impl Modules {
    /// The module that a path in a file of module `from` leads to.
    fn resolve(&self, from: &[String], path: &[String]) -> ModulePath {
        let mut at: ModulePath = Vec::new();
        let mut steps = path.iter().peekable();
        match steps.next().map(String::as_str) {
            Some("self") => at = from.to_vec(),
            Some("super") => at = from[..from.len().saturating_sub(1)].to_vec(),
            _ => {}
        }
        while steps.next_if(|step| *step == "super").is_some() {
            at.pop();
        }
        for step in steps {
            let mut child = at.clone();
            child.push(step.clone());
            if self.known.contains(&child) {
                at = child;
            } else if let Some(target) = self.exports.get(&(at.clone(), step.clone())) {
                return self.resolve_export(&at, target);
            } else {
                break;
            }
        }
        at
    }

    /// The module that a re-export of module `of` names, which begins at a child or at `crate`.
    fn resolve_export(&self, of: &[String], target: &[String]) -> ModulePath {
        let keywords = ["crate", "super", "self"];
        if target.first().is_some_and(|first| keywords.contains(&first.as_str())) {
            return self.resolve(of, target);
        }
        self.resolve(of, &[&["self".to_string()], target].concat())
    }
}

/// Takes the re-exports (`pub use ...;`) out of some code: their trees, and the code without them.
fn take_exports(code: &str) -> (Vec<String>, String) {
    let (mut trees, mut rest, mut code) = (Vec::new(), String::new(), code);
    while let Some(at) = code.find("pub") {
        let (before, behind) = code.split_at(at + 3);
        rest.push_str(before);
        code = behind;
        let visible = behind.trim_start();
        let scope = visible.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        let item = scope.map_or(visible, |(_, item)| item).trim_start();
        if let Some((tree, behind)) = item.strip_prefix("use ").and_then(|i| i.split_once(';')) {
            trees.push(tree.to_string());
            code = behind;
        }
    }
    rest.push_str(code);
    (trees, rest)
}

/// Every path in some code that begins at `crate`, `super` or `self`.
fn paths(code: &str) -> Vec<ModulePath> {
    let mut found = Vec::new();
    for start in ["crate", "super", "self"] {
        for at in words(code, start) {
            let inside = code[..at].trim_end().ends_with("::");
            if !inside && code[at + start.len()..].starts_with("::") {
                found.extend(expand(tree_at(&code[at..])));
            }
        }
    }
    found
}

/// Paths of a folder's own file into its children, which need no keyword in front.
fn child_paths(code: &str, of: &[String], known: &BTreeSet<ModulePath>) -> Vec<ModulePath> {
    let children = known.iter().filter(|path| path.len() == of.len() + 1 && path.starts_with(of));
    let uses = |name: &str| {
        words(code, name).any(|at| {
            let inside = code[..at].ends_with("::") || code[..at].ends_with('.');
            !inside && code[at + name.len()..].starts_with("::")
        })
    };
    children.filter(|path| path.last().is_some_and(|name| uses(name))).cloned().collect()
}

/// The path, or tree of paths, at the start of some code.
fn tree_at(code: &str) -> &str {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'{' if depth > 0 || code[..at].ends_with("::") => depth += 1,
            b'}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    return &code[..=at];
                }
            }
            b'*' if code[..at].ends_with("::") && depth == 0 => return &code[..=at],
            _ if depth > 0 || is_word(byte) || byte == b':' => {}
            _ => return &code[..at],
        }
    }
    code
}

/// The paths of a tree such as `crate::{a::B, c::{self, d as e}}`, renamed ones by their old names.
fn expand(tree: &str) -> Vec<ModulePath> {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split_whitespace().next().unwrap_or_default();
        let steps = path.split("::").map(str::trim).filter(|step| !step.is_empty());
        return vec![steps.map(String::from).collect()];
    };
    let head: ModulePath =
        head.split("::").map(str::trim).filter(|step| !step.is_empty()).map(String::from).collect();
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let mut found = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, byte) in group.bytes().chain([b',']).enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                for mut path in expand(&group[start..at]) {
                    path.retain(|step| step != "self");
                    found.push([head.clone(), path].concat());
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests;
