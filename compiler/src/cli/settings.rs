//! `vjepac settings`: every path that `--set` can change, the expression it holds, and the line it comes from.
//!
//! This reads the definitions rather than the elaborated model: a setting is shown as it is written, so that late-bound
//! ones stay formulas (`encoder.hidden = 4 * dim`). It walks the model's chain of `with` from its base to the command
//! line, later lines replacing earlier ones, as elaboration does.

use std::rc::Rc;

use serde_json::{Value, json};
use vjepac::elaborate::Override;
use vjepac::source::{FileId, Sources, Span};
use vjepac::syntax;
use vjepac::syntax::ast::{Body, Def, DefValue, Expr, ExprKind, Formal, Kind, StmtKind};

use super::session::{Failure, Session, pretty, print};

/// One path and what it holds.
pub struct Setting {
    /// Such as `encoder.depth`.
    pub path: String,
    /// The expression as written.
    pub value: String,
    /// Who says so.
    pub origin: Origin,
    /// Where it is written; nothing for the command line.
    pub span: Option<Span>,
}

/// Who gave a setting its value.
#[derive(Clone, Copy, PartialEq)]
pub enum Origin {
    /// The definition of the model.
    Model,
    /// The default of a block or mask.
    Default,
    /// A `with`.
    With,
    /// `--set`.
    CommandLine,
}

impl Origin {
    /// As printed.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Model => "model",
            Origin::Default => "default",
            Origin::With => "with",
            Origin::CommandLine => "--set",
        }
    }
}

/// Prints all settings of the one model.
pub fn run(session: &mut Session, json: bool) -> Result<(), Failure> {
    let model = session.checked()?;
    let all = of_model(&session.sources, session.file, &model.name, &session.overrides);
    if json {
        let items: Vec<Value> = all.iter().map(|s| to_json(&session.sources, s)).collect();
        print(&pretty(&Value::Array(items)));
    } else {
        print(&table(&session.sources, &all));
    }
    Ok(())
}

/// A setting as `settings --json` shows it.
pub fn to_json(sources: &Sources, setting: &Setting) -> Value {
    let place = setting.span.map(|s| (sources.get(s.file).path.clone(), sources.line_column(s.file, s.start)));
    json!({
        "path": setting.path,
        "value": setting.value,
        "origin": setting.origin.name(),
        "file": place.as_ref().map(|p| &p.0),
        "line": place.as_ref().map(|p| p.1.0),
        "column": place.as_ref().map(|p| p.1.1),
    })
}

/// Settings as aligned lines.
pub fn table(sources: &Sources, all: &[Setting]) -> String {
    let width = all.iter().map(|s| s.path.chars().count()).max().unwrap_or(0);
    let line = |s: &Setting| {
        let place = match s.span {
            Some(span) => {
                let at = format!("{}:{}", sources.get(span.file).path, sources.line_column(span.file, span.start).0);
                if s.origin == Origin::Default { format!("{at} (default)") } else { at }
            }
            None => "--set".to_owned(),
        };
        format!("{:width$} = {:60}  {place}\n", s.path, shorten(&s.value))
    };
    all.iter().map(line).collect()
}

fn shorten(value: &str) -> String {
    if value.chars().count() <= 60 { value.to_owned() } else { value.chars().take(57).chain("...".chars()).collect() }
}

/// Every setting of a model whose files are all in `sources`.
pub fn of_model(sources: &Sources, file: FileId, model: &str, overrides: &[Override]) -> Vec<Setting> {
    let mut walk = Walk { sources, found: vec![] };
    if let Some((file, def)) = walk.lookup(file, model, 0) {
        walk.model(file, &def, 0);
    }
    for o in overrides {
        let value = o.value.clone();
        walk.put(&o.path, Setting { path: o.path.clone(), value, origin: Origin::CommandLine, span: None });
    }
    walk.found
}

/// Imports and `with` chains are at most this long; a cycle was reported before.
const MAX_CHAIN: usize = 100;

struct Walk<'a> {
    sources: &'a Sources,
    found: Vec<Setting>,
}

impl Walk<'_> {
    /// The definition that a name of a file stands for.
    fn lookup(&self, file: FileId, name: &str, depth: usize) -> Option<(FileId, Rc<Def>)> {
        let ast = syntax::parse(self.sources, file).ok().filter(|_| depth < MAX_CHAIN)?;
        if let Some(def) = ast.defs.iter().find(|d| &*d.name.text == name) {
            return Some((file, def.clone()));
        }
        let import = |i: &syntax::ast::Import| {
            let (there, _) = i.names.iter().find(|(_, here)| &*here.text == name)?;
            Some((i.module.text.clone(), there.text.clone()))
        };
        let (module, there) = ast.imports.iter().find_map(import)?;
        let path = module_path(&self.sources.get(file).path, &module);
        self.lookup(self.sources.find(&path)?, &there, depth + 1)
    }

    fn model(&mut self, file: FileId, def: &Def, depth: usize) {
        match &def.value {
            DefValue::Body(body) => self.body(file, "", body, Origin::Model),
            DefValue::Expr(expr) => self.variant(file, expr, depth),
        }
    }

    /// `base`, `base with { ... }`, `base with { ... } with { ... }`.
    fn variant(&mut self, file: FileId, expr: &Expr, depth: usize) {
        match &expr.kind {
            ExprKind::With(base, changes) => {
                self.variant(file, base, depth);
                self.body(file, "", changes, Origin::With);
            }
            ExprKind::Name(name) if depth < MAX_CHAIN => {
                if let Some((file, def)) = self.lookup(file, name, 0) {
                    self.model(file, &def, depth + 1);
                }
            }
            _ => {}
        }
    }

    fn body(&mut self, file: FileId, prefix: &str, body: &Body, origin: Origin) {
        for stmt in &body.stmts {
            match &stmt.kind {
                StmtKind::Bind { targets, value, .. } => {
                    for target in targets {
                        let path = join(prefix, &syntax::print::path(target));
                        self.field(file, &path, value, origin);
                    }
                }
                StmtKind::Section(name, inner) => self.body(file, &join(prefix, &name.text), inner, origin),
                StmtKind::Metric(name, value) => {
                    self.leaf(join(prefix, &format!("metric {}", name.text)), value, origin)
                }
                StmtKind::Draw { name, from, .. } => self.leaf(join(prefix, &name.text), from, origin),
                StmtKind::Learn(_) | StmtKind::Require(..) | StmtKind::Forward(..) | StmtKind::Return(_) => {}
            }
        }
    }

    /// A field, and the settings of the block, mask or source that it calls.
    fn field(&mut self, file: FileId, path: &str, value: &Rc<Expr>, origin: Origin) {
        self.leaf(path.to_owned(), value, origin);
        let ExprKind::Call(callee, args) = &value.kind else { return };
        let ExprKind::Name(name) = &callee.kind else { return };
        let formals = match self.lookup(file, name, 0) {
            Some((at, def)) if matches!(def.kind, Kind::Block | Kind::Mask) => self.formals(at, &def, 0),
            Some(_) => return,
            // A source: what is given is what can be changed.
            None => vec![],
        };
        for (i, arg) in args.iter().enumerate() {
            let formal = formals.get(i).filter(|f| f.names.len() == 1).map(|f| f.names[0].text.clone());
            let given = arg.name.as_ref().map(|n| n.text.clone()).or(formal);
            if let Some(given) = given.filter(|_| !formals.is_empty() || is_source(name)) {
                self.leaf(join(path, &given), &arg.value, origin);
            }
        }
        for formal in &formals {
            let inner = join(path, &formal.names[0].text);
            if let Some(default) = &formal.default
                && formal.names.len() == 1
                && !self.found.iter().any(|s| s.path == inner)
            {
                self.leaf(inner, default, Origin::Default);
            }
        }
    }

    /// Settings of a block, those of its base after its own.
    fn formals(&self, file: FileId, def: &Def, depth: usize) -> Vec<Formal> {
        let mut formals = def.formals.clone();
        let mut base = match &def.value {
            DefValue::Expr(expr) => Some(expr.clone()),
            DefValue::Body(_) => None,
        };
        while let Some(expr) = base {
            base = match &expr.kind {
                ExprKind::With(inner, _) => Some(inner.clone()),
                ExprKind::Name(name) if depth < MAX_CHAIN => {
                    if let Some((at, def)) = self.lookup(file, name, 0) {
                        formals.extend(self.formals(at, &def, depth + 1));
                    }
                    None
                }
                _ => None,
            };
        }
        formals
    }

    fn leaf(&mut self, path: String, value: &Expr, origin: Origin) {
        let text = self.sources.text(value.span).split_whitespace().collect::<Vec<_>>().join(" ");
        self.put(&path.clone(), Setting { path, value: text, origin, span: Some(value.span) });
    }

    /// A later line takes the place of an earlier one, and of the settings below it.
    fn put(&mut self, path: &str, setting: Setting) {
        let below = format!("{path}.");
        self.found.retain(|s| !s.path.starts_with(&below));
        match self.found.iter_mut().find(|s| s.path == path) {
            Some(old) => *old = setting,
            None => {
                // Beside its siblings, so that the list stays readable.
                let parent = path.rsplit_once('.').map(|p| format!("{}.", p.0));
                let after = parent.and_then(|p| self.found.iter().rposition(|s| s.path.starts_with(&p)));
                let at = after.map_or(self.found.len(), |i| i + 1);
                self.found.insert(at, setting);
            }
        }
    }
}

fn is_source(name: &str) -> bool {
    matches!(name, "video" | "image" | "label")
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// The path of an imported file, as elaboration names it.
fn module_path(importer: &str, module: &str) -> String {
    if let Some(name) = module.strip_prefix("std.") {
        return format!("std/{name}.vjepa");
    }
    let mut parts: Vec<&str> = importer.split('/').collect();
    parts.pop();
    for part in module.split('/') {
        match part {
            "." => {}
            ".." if parts.last().is_some_and(|p| *p != ".." && !p.is_empty()) => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("{}.vjepa", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_lines_win_and_defaults_show() {
        let mut sources = Sources::default();
        sources.add(
            "m/base.vjepa",
            "block enc(dim, hidden = 4 * dim) {}\nmodel base { e = enc(dim = 8), train { steps = 3 } }",
        );
        let file = sources.add("m/a.vjepa", "from ./base import base as b\nmodel a = b with { e { dim = 16 } }");
        let set = [Override { path: "train.steps".into(), value: "5".into() }];
        let all = of_model(&sources, file, "a", &set);
        let shown: Vec<String> = all.iter().map(|s| format!("{}={} {}", s.path, s.value, s.origin.name())).collect();
        assert_eq!(shown, ["e=enc(dim = 8) model", "e.dim=16 with", "e.hidden=4 * dim default", "train.steps=5 --set"]);
        assert_eq!(sources.line_column(file, all[1].span.unwrap().start), (2, 30));
    }
}
