//! A model as one file: every definition it reaches, imports inlined, overrides written as a last `with`.
//!
//! Definitions keep their text. Two that share a name, or one that hides a built-in, get a number behind theirs, and
//! the files that meant them are rewritten, scope by scope; nothing else changes, so the bundle elaborates to the same
//! model. Relies on `sources` holding every file already, as it does after elaboration.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Override, builtins, imports};
use crate::diag::Fallible;
use crate::source::{FileId, Sources};
use crate::syntax::ast::{
    Arg, Ast, Body, Def, DefValue, Expr, ExprKind, Formal, FormalKind, Gen, Kind, Learn, Stmt, StmtKind, Word,
};
use crate::syntax::parse::parse;
use crate::syntax::print::print_def;

/// A definition: its file and name there.
type Place = (FileId, Rc<str>);

/// What the names of a file stand for.
type Names = BTreeMap<Rc<str>, Place>;

/// The model `name` of `file`, with everything it needs, as the text of one file.
pub fn resolved(sources: &mut Sources, file: FileId, name: &str, overrides: &[Override]) -> Fallible<String> {
    let mut files = Files::default();
    let target: Place = (file, name.into());
    let mut roots = vec![target.clone()];
    let changes = changes(sources, &mut files, file, name, overrides)?;
    if let Some((names, def)) = &changes {
        roots.extend(reached(def, names, &files.parsed));
    }
    let order = files.closure(sources, roots)?;
    let as_written = if changes.is_some() { format!("{name}_as_written") } else { name.to_string() };
    let out = output_names(&order, &target, &as_written, name);

    let mut text = format!("# The model `{name}` with everything it needs in one file.\n");
    for place in order.iter().filter(|p| **p != target).chain([&target]) {
        files.get(sources, place.0)?;
        let (_, names) = &files.parsed[&place.0];
        let def = definition(&files.parsed, place).expect("compiler bug: a definition has gone");
        text.push('\n');
        text.push_str(print_def(&rename_def(def, names, &files.parsed, &out)).trim_end());
        text.push('\n');
    }
    if let Some((names, def)) = &changes {
        text.push('\n');
        text.push_str(print_def(&rename_def(def, names, &files.parsed, &out)).trim_end());
        text.push('\n');
    }
    Ok(text)
}

/// Overrides as a definition `model NAME = NAME with { a } with { b }`, and what names mean in it: the model's file
/// first, then all of the standard library.
fn changes(
    sources: &mut Sources,
    files: &mut Files,
    file: FileId,
    name: &str,
    overrides: &[Override],
) -> Fallible<Option<(Names, Rc<Def>)>> {
    if overrides.is_empty() {
        return Ok(None);
    }
    let lines: Vec<String> = overrides.iter().map(|o| format!(" with {{\n{} = {}\n}}", o.path, o.value)).collect();
    let id = sources.add("command line", format!("model {name} = {name}{}\n", lines.concat()));
    let ast = parse(sources, id)?;
    let mut names = Names::new();
    for (module, _) in imports::STD {
        if let Some(std) = sources.find(&format!("std/{module}.vjepa")) {
            names.extend(files.get(sources, std)?.1.clone());
        }
    }
    names.extend(files.get(sources, file)?.1.clone());
    Ok(Some((names, ast.defs[0].clone())))
}

/// Parsed files with what their names mean.
#[derive(Default)]
struct Files {
    parsed: Parsed,
}

/// Files that are needed, each with what its names mean.
type Parsed = BTreeMap<FileId, (Ast, Names)>;

/// The definition at a place.
fn definition<'a>(parsed: &'a Parsed, place: &Place) -> Option<&'a Rc<Def>> {
    parsed.get(&place.0)?.0.defs.iter().find(|d| d.name.text == place.1)
}

impl Files {
    fn get(&mut self, sources: &mut Sources, file: FileId) -> Fallible<(&Ast, &Names)> {
        if !self.parsed.contains_key(&file) {
            let ast = parse(sources, file)?;
            let mut names = Names::new();
            for import in &ast.imports {
                let path = imports::module_path(&sources.get(file).path, &import.module.text);
                let there = sources.find(&path).expect("compiler bug: an imported file has gone");
                let (_, theirs) = self.get(sources, there)?;
                for (name, here) in &import.names {
                    if let Some(place) = theirs.get(&name.text) {
                        names.insert(here.text.clone(), place.clone());
                    }
                }
            }
            names.extend(ast.defs.iter().map(|d| (d.name.text.clone(), (file, d.name.text.clone()))));
            self.parsed.insert(file, (ast, names));
        }
        let (ast, names) = &self.parsed[&file];
        Ok((ast, names))
    }

    /// Everything reached from `roots`, what is used before what uses it.
    fn closure(&mut self, sources: &mut Sources, roots: Vec<Place>) -> Fallible<Vec<Place>> {
        let mut seen: Vec<Place> = Vec::new();
        let mut stack = roots;
        while let Some(place) = stack.pop() {
            // A place met again moves further back: what it needs must still come before.
            if let Some(i) = seen.iter().position(|p| *p == place) {
                seen.remove(i);
                seen.push(place);
                continue;
            }
            self.get(sources, place.0)?;
            if let Some(def) = definition(&self.parsed, &place) {
                stack.extend(reached(def, &self.parsed[&place.0].1, &self.parsed));
                seen.push(place);
            }
        }
        seen.reverse();
        Ok(seen)
    }
}

/// Definitions that a definition may mean. Names hidden by inner scopes are counted too: an extra definition in the
/// bundle does no harm.
fn reached(def: &Def, names: &Names, parsed: &Parsed) -> Vec<Place> {
    let mut found = Vec::new();
    let mut note = |place: &Place| {
        if !found.contains(place) {
            found.push(place.clone());
        }
        None
    };
    let mut renamer = Renamer { names, parsed, rename: &mut note, bound: vec![], behind: vec![], blind: true };
    renamer.def(def);
    found
}

/// A name for every definition of the bundle.
fn output_names(order: &[Place], target: &Place, as_written: &str, name: &str) -> BTreeMap<Place, Rc<str>> {
    let mut out: BTreeMap<Place, Rc<str>> = BTreeMap::from([(target.clone(), as_written.into())]);
    let taken = |out: &BTreeMap<Place, Rc<str>>, n: &str| {
        n == name || builtins::NAMES.contains(&n) || out.values().any(|v| &**v == n)
    };
    for place in order {
        if !out.contains_key(place) {
            let mut n = place.1.to_string();
            for number in 2.. {
                if !taken(&out, &n) {
                    break;
                }
                n = format!("{}_{number}", place.1);
            }
            out.insert(place.clone(), n.into());
        }
    }
    out
}

fn rename_def(def: &Def, names: &Names, parsed: &Parsed, out: &BTreeMap<Place, Rc<str>>) -> Def {
    let mut rename = |place: &Place| out.get(place).cloned();
    let own = names.get(&def.name.text).filter(|place| place.0 == def.span.file);
    let new_name = own.and_then(&mut rename);
    let mut renamer = Renamer { names, parsed, rename: &mut rename, bound: vec![], behind: vec![], blind: false };
    let mut renamed = renamer.def(def);
    if let Some(text) = new_name {
        renamed.name.text = text;
    }
    renamed
}

/// Walks a definition and renames names that mean definitions. `bound` holds names that mean something nearer; `blind`
/// ignores them.
struct Renamer<'a> {
    names: &'a Names,
    parsed: &'a Parsed,
    rename: &'a mut dyn FnMut(&Place) -> Option<Rc<str>>,
    bound: Vec<Rc<str>>,
    /// Names of the files of the bases whose variant this is: they come after the file's own.
    behind: Vec<&'a Names>,
    blind: bool,
}

impl Renamer<'_> {
    fn name(&mut self, name: &Rc<str>) -> Rc<str> {
        if !self.blind && self.bound.contains(name) {
            return name.clone();
        }
        let place = self.place(name);
        place.and_then(|place| (self.rename)(&place)).unwrap_or_else(|| name.clone())
    }

    /// The definition that a name means.
    fn place(&self, name: &Rc<str>) -> Option<Place> {
        std::iter::once(self.names).chain(self.behind.iter().rev().copied()).find_map(|n| n.get(name)).cloned()
    }

    /// The lines of a `with`: the settings and fields of the base come first, the names of its file last.
    fn lines(&mut self, base: &Expr, body: &Body) -> Rc<Body> {
        let (bound, behind) = (self.bound.len(), self.behind.len());
        let mut next = base_name(base).and_then(|name| self.place(name));
        let (mut bases, mut seen) = (vec![], vec![]);
        while let Some(place) = next.take().filter(|p| !seen.contains(p)) {
            let (Some((_, names)), Some(def)) = (self.parsed.get(&place.0), definition(self.parsed, &place)) else {
                break;
            };
            self.bind_formals(&def.formals);
            match &def.value {
                DefValue::Body(body) => body.stmts.iter().for_each(|s| self.bind_stmt(s)),
                DefValue::Expr(expr) => next = base_name(expr).and_then(|name| names.get(name)).cloned(),
            }
            if matches!(def.kind, Kind::Block | Kind::Mask) {
                bases.push(names);
            }
            seen.push(place);
        }
        self.behind.extend(bases.into_iter().rev());
        let result = self.body(body);
        self.bound.truncate(bound);
        self.behind.truncate(behind);
        result
    }

    fn def(&mut self, def: &Def) -> Def {
        let depth = self.bound.len();
        self.bound.extend(def.axes.iter().map(|w| w.text.clone()));
        self.bind_formals(&def.formals);
        let formals = self.formals(&def.formals);
        let value = match &def.value {
            DefValue::Body(body) => DefValue::Body(self.body(body)),
            DefValue::Expr(expr) => DefValue::Expr(self.expr(expr)),
        };
        self.bound.truncate(depth);
        Def { formals, value, ..def.clone() }
    }

    fn bind_formals(&mut self, formals: &[Formal]) {
        for formal in formals {
            self.bound.extend(formal.names.iter().map(|w| w.text.clone()));
            if let Some(FormalKind::Group(names)) = &formal.kind {
                self.bound.extend(names.iter().map(|w| w.text.clone()));
            }
        }
    }

    /// Own name means the outer one: a default `attention = attention` is not the setting.
    fn formals(&mut self, formals: &[Formal]) -> Vec<Formal> {
        formals
            .iter()
            .map(|f| {
                let default = f.default.as_ref().map(|d| match f.names.as_slice() {
                    [own] => self.without(&own.text, |s| s.expr(d)),
                    _ => self.expr(d),
                });
                Formal { default, ..f.clone() }
            })
            .collect()
    }

    fn without<T>(&mut self, name: &str, f: impl FnOnce(&mut Self) -> T) -> T {
        let saved = self.bound.clone();
        if let Some(i) = self.bound.iter().rposition(|b| &**b == name) {
            self.bound.remove(i);
        }
        let result = f(self);
        self.bound = saved;
        result
    }

    fn body(&mut self, body: &Body) -> Rc<Body> {
        let depth = self.bound.len();
        for stmt in &body.stmts {
            self.bind_stmt(stmt);
        }
        let stmts = body.stmts.iter().map(|s| Rc::new(self.stmt(s))).collect();
        self.bound.truncate(depth);
        Rc::new(Body { stmts, span: body.span })
    }

    fn bind_stmt(&mut self, stmt: &Stmt) {
        match &stmt.kind {
            StmtKind::Learn(Learn { name, .. }) | StmtKind::Draw { name, .. } => self.bound.push(name.text.clone()),
            StmtKind::Section(name, _) => self.bound.push(name.text.clone()),
            StmtKind::Bind { targets, .. } => {
                self.bound.extend(targets.iter().filter_map(|t| t.parts.first()).map(|w| w.text.clone()));
            }
            StmtKind::Require(..) | StmtKind::Forward(..) | StmtKind::Return(_) | StmtKind::Metric(..) => {}
        }
    }

    fn stmt(&mut self, stmt: &Stmt) -> Stmt {
        let kind = match &stmt.kind {
            StmtKind::Learn(l) => {
                let shape = l.shape.iter().map(|e| self.expr(e)).collect();
                let init = self.expr(&l.init);
                let condition = l.condition.as_ref().map(|c| self.expr(c));
                StmtKind::Learn(Learn { shape, init, condition, ..l.clone() })
            }
            StmtKind::Require(e, message) => StmtKind::Require(self.expr(e), message.clone()),
            StmtKind::Forward(formals, body) => {
                let depth = self.bound.len();
                self.bind_formals(formals);
                let result = StmtKind::Forward(self.formals(formals), self.body(body));
                self.bound.truncate(depth);
                result
            }
            StmtKind::Return(e) => StmtKind::Return(self.expr(e)),
            StmtKind::Metric(name, e) => StmtKind::Metric(name.clone(), self.expr(e)),
            StmtKind::Section(name, body) => StmtKind::Section(name.clone(), self.body(body)),
            StmtKind::Draw { name, axes, from, per } => {
                let from = self.without(&name.text, |s| s.expr(from));
                StmtKind::Draw { name: name.clone(), axes: axes.clone(), from, per: per.clone() }
            }
            StmtKind::Bind { targets, key, kind, value } => {
                let value = match targets.as_slice() {
                    [one] if one.parts.len() == 1 => self.without(&one.parts[0].text, |s| s.expr(value)),
                    _ => self.expr(value),
                };
                StmtKind::Bind { targets: targets.clone(), key: key.clone(), kind: kind.clone(), value }
            }
        };
        Stmt { kind, ..stmt.clone() }
    }

    fn args(&mut self, args: &[Arg]) -> Vec<Arg> {
        args.iter().map(|a| Arg { value: self.expr(&a.value), ..a.clone() }).collect()
    }

    fn exprs(&mut self, exprs: &[Rc<Expr>]) -> Vec<Rc<Expr>> {
        exprs.iter().map(|e| self.expr(e)).collect()
    }

    fn expr(&mut self, expr: &Rc<Expr>) -> Rc<Expr> {
        let kind = match &expr.kind {
            ExprKind::Number { .. } | ExprKind::Text(_) => return expr.clone(),
            ExprKind::Name(name) => ExprKind::Name(self.name(name)),
            ExprKind::Tuple(args) => ExprKind::Tuple(self.args(args)),
            ExprKind::List(items) => ExprKind::List(self.exprs(items)),
            ExprKind::Each(body, gens) => {
                let gens: Vec<Gen> = gens.iter().map(|g| Gen { over: self.expr(&g.over), ..g.clone() }).collect();
                let depth = self.bound.len();
                self.bound.extend(gens.iter().flat_map(|g| g.names.iter().map(|w: &Word| w.text.clone())));
                let body = self.expr(body);
                self.bound.truncate(depth);
                ExprKind::Each(body, gens)
            }
            ExprKind::Arrow(items) => ExprKind::Arrow(self.exprs(items)),
            ExprKind::Neg(x) => ExprKind::Neg(self.expr(x)),
            ExprKind::Not(x) => ExprKind::Not(self.expr(x)),
            ExprKind::Binary(op, x, y) => ExprKind::Binary(*op, self.expr(x), self.expr(y)),
            ExprKind::If(c, a, b) => ExprKind::If(self.expr(c), self.expr(a), self.expr(b)),
            ExprKind::Call(f, args) => ExprKind::Call(self.expr(f), self.args(args)),
            ExprKind::Pick(x, items) => ExprKind::Pick(self.expr(x), self.args(items)),
            ExprKind::Field(x, name) => ExprKind::Field(self.expr(x), name.clone()),
            ExprKind::With(x, body) => ExprKind::With(self.expr(x), self.lines(x, body)),
        };
        Rc::new(Expr { kind, span: expr.span })
    }
}

/// `base` of `base with { ... } with { ... }`.
fn base_name(expr: &Expr) -> Option<&Rc<str>> {
    match &expr.kind {
        ExprKind::Name(name) => Some(name),
        ExprKind::With(x, _) => base_name(x),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elaborate::elaborate;
    use crate::source::Loader;

    struct Memory(&'static [(&'static str, &'static str)]);

    impl Loader for Memory {
        fn load(&self, path: &str) -> Result<String, String> {
            let found = self.0.iter().find(|(p, _)| *p == path);
            found.map(|(_, text)| text.to_string()).ok_or_else(|| "no such file".into())
        }
    }

    /// A user's `gelu` hides the library's, an alias is renamed, and `--set` uses a name that the file does not import.
    #[test]
    fn names_that_clash_are_told_apart() {
        let base = "from std.nn import linear, silu as act\nfrom std.losses import l2\nfrom std.nn import mlp\n\
            fn gelu(x) = act(x)\n\
            block net(dim, act = gelu) {\n fc = linear(dim -> dim)\n forward(x: [dim]) = act(fc(x))\n}\n\
            model m {\n clip = image(size = 4 px)\n net = net(3)\n out = net(clip[rgb -> dim])\n loss = l2(out, 0)\n inner = mlp\n \
            train { data = [\"d\"], batch = 2, steps = 5, optimizer = adamw(lr = 0.1), precision = \"f32\" }\n}\n";
        let base = base.replace(" inner = mlp\n", "").replace("from std.nn import mlp\n", "");
        let loader = Memory(&[]);
        let mut sources = Sources::default();
        let file = sources.add("m.vjepa", base);
        let overrides = [Override { path: "net.act".into(), value: "relu".into() }];
        let before = elaborate(&mut sources, &loader, file, Some("m"), &overrides).unwrap();
        let text = resolved(&mut sources, file, "m", &overrides).unwrap();
        let mut again = Sources::default();
        let file = again.add("r.vjepa", &text);
        let after = elaborate(&mut again, &loader, file, Some("m"), &[]).unwrap_or_else(|e| panic!("{text}\n{e:?}"));
        assert_eq!(before.nodes.len(), after.nodes.len());
        assert!(before.nodes.iter().zip(&after.nodes).all(|(a, b)| a.op == b.op && a.inputs == b.inputs));
    }
}
