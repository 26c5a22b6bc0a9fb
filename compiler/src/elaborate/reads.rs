//! Fields that nobody reads. Judged on a definition as it is written: a variant may leave something unread.

use std::collections::HashSet;
use std::rc::Rc;

use super::Elab;
use crate::diag::Diagnostic;
use crate::syntax::ast::{Body, Def, DefValue, Expr, ExprKind, Formal, FormalKind, Kind, Stmt, StmtKind, Word};

/// Keys of `train` that have a meaning of their own.
pub const TRAIN_KEYS: [&str; 8] = ["data", "batch", "group", "steps", "optimizer", "clip_grad", "precision", "seed"];

/// Lints that a line may silence with `allow(...)`.
pub const LINTS: [&str; 1] = ["V0501"];

/// Visits an expression and everything in it.
pub fn visit(expr: &Expr, f: &mut dyn FnMut(&Expr)) {
    f(expr);
    match &expr.kind {
        ExprKind::Number { .. } | ExprKind::Text(_) | ExprKind::Name(_) => {}
        ExprKind::Tuple(items) => items.iter().for_each(|a| visit(&a.value, f)),
        ExprKind::List(items) | ExprKind::Arrow(items) => items.iter().for_each(|e| visit(e, f)),
        ExprKind::Each(body, gens) => {
            visit(body, f);
            gens.iter().for_each(|g| visit(&g.over, f));
        }
        ExprKind::Neg(x) | ExprKind::Not(x) | ExprKind::Field(x, _) => visit(x, f),
        ExprKind::Binary(_, a, b) => {
            visit(a, f);
            visit(b, f);
        }
        ExprKind::If(a, b, c) => [a, b, c].iter().for_each(|e| visit(e, f)),
        ExprKind::Call(x, args) | ExprKind::Pick(x, args) => {
            visit(x, f);
            args.iter().for_each(|a| visit(&a.value, f));
        }
        ExprKind::With(x, body) => {
            visit(x, f);
            body.stmts.iter().for_each(|s| visit_stmt(s, f));
        }
    }
}

/// Visits every expression of a statement.
pub fn visit_stmt(stmt: &Stmt, f: &mut dyn FnMut(&Expr)) {
    match &stmt.kind {
        StmtKind::Learn(learn) => {
            learn.shape.iter().for_each(|e| visit(e, f));
            visit(&learn.init, f);
            learn.condition.iter().for_each(|e| visit(e, f));
        }
        StmtKind::Require(cond, _) => visit(cond, f),
        StmtKind::Forward(formals, body) => {
            formals.iter().for_each(|x| visit_formal(x, f));
            body.stmts.iter().for_each(|s| visit_stmt(s, f));
        }
        StmtKind::Return(e) | StmtKind::Metric(_, e) => visit(e, f),
        StmtKind::Section(_, body) => body.stmts.iter().for_each(|s| visit_stmt(s, f)),
        StmtKind::Draw { from, .. } => visit(from, f),
        StmtKind::Bind { value, kind, .. } => {
            visit(value, f);
            if let Some(FormalKind::Shape(shape, _)) = kind {
                shape.iter().for_each(|e| visit(e, f));
            }
        }
    }
}

fn visit_formal(formal: &Formal, f: &mut dyn FnMut(&Expr)) {
    if let Some(FormalKind::Shape(shape, _)) = &formal.kind {
        shape.iter().for_each(|e| visit(e, f));
    }
    formal.default.iter().for_each(|e| visit(e, f));
}

/// Words of a statement that name something without being expressions: axes of a draw, `{dim}` in a message.
fn words(stmt: &Stmt, read: &mut HashSet<Rc<str>>) {
    match &stmt.kind {
        StmtKind::Learn(learn) => read.extend(learn.list.iter().map(|w| w.text.clone())),
        StmtKind::Draw { axes, per, .. } => read.extend(axes.iter().chain(per).map(|w| w.text.clone())),
        StmtKind::Require(_, Some(message)) => {
            let names = message.text.split('{').skip(1).filter_map(|part| part.split_once('}'));
            read.extend(names.map(|(n, _)| n.into()));
        }
        StmtKind::Forward(formals, body) => {
            for formal in formals {
                if let Some(FormalKind::Shape(_, Some(of))) = &formal.kind {
                    read.insert(of.text.clone());
                }
            }
            body.stmts.iter().for_each(|s| words(s, read));
        }
        StmtKind::Section(_, body) => body.stmts.iter().for_each(|s| words(s, read)),
        StmtKind::Require(..) | StmtKind::Return(_) | StmtKind::Metric(..) | StmtKind::Bind { .. } => {}
    }
}

/// Names that a statement reads, its own names aside. `train.horizon` also reads `horizon`.
pub fn names_read(stmt: &Stmt) -> HashSet<Rc<str>> {
    let mut read = HashSet::new();
    visit_stmt(stmt, &mut |e| match &e.kind {
        ExprKind::Name(n) => {
            read.insert(n.clone());
        }
        ExprKind::Pick(_, items) => read.extend(items.iter().filter_map(|a| a.name.as_ref().map(|w| w.text.clone()))),
        ExprKind::Field(x, name) if matches!(&x.kind, ExprKind::Name(_)) => {
            read.insert(name.text.clone());
        }
        _ => {}
    });
    words(stmt, &mut read);
    read
}

/// Names that a statement defines.
pub fn defined(stmt: &Stmt) -> Vec<&Word> {
    match &stmt.kind {
        StmtKind::Learn(learn) => vec![&learn.name],
        StmtKind::Draw { name, .. } => vec![name],
        StmtKind::Bind { targets, .. } => targets.iter().filter(|t| t.parts.len() == 1).map(|t| &t.parts[0]).collect(),
        StmtKind::Require(..) | StmtKind::Forward(..) | StmtKind::Return(_) | StmtKind::Metric(..) => vec![],
        StmtKind::Section(..) => vec![],
    }
}

/// Every statement of a body, those in it included.
fn each_stmt(body: &Body, f: &mut dyn FnMut(&Stmt)) {
    for stmt in &body.stmts {
        f(stmt);
        match &stmt.kind {
            StmtKind::Section(_, inner) | StmtKind::Forward(_, inner) => each_stmt(inner, f),
            StmtKind::Bind { value, .. } | StmtKind::Return(value) | StmtKind::Metric(_, value) => each_line(value, f),
            StmtKind::Learn(_) | StmtKind::Require(..) | StmtKind::Draw { .. } => {}
        }
    }
}

/// Every line of every `with` in an expression.
fn each_line(expr: &Expr, f: &mut dyn FnMut(&Stmt)) {
    visit(expr, &mut |e| {
        if let ExprKind::With(_, body) = &e.kind {
            each_stmt(body, f);
        }
    });
}

/// What nothing in its definition reads.
pub struct Unread {
    /// The complaint.
    pub diagnostic: Diagnostic,
    /// An equation of a `forward`: a tap of this name may read it from elsewhere.
    pub equation: Option<Rc<str>>,
}

impl Elab<'_> {
    /// Reports names given twice, and keeps for later what nothing in the definition reads: a mistake elsewhere is
    /// often the reason, and is shown first.
    pub(super) fn check_reads(&mut self, def: &Def, errors: &mut Vec<Diagnostic>) {
        let mut found = vec![];
        let mut look = |e: &Expr| match &e.kind {
            ExprKind::Field(_, name) => {
                self.fields_read.insert(name.text.clone());
            }
            ExprKind::With(_, body) => {
                for stmt in &body.stmts {
                    if let StmtKind::Forward(_, inner) = &stmt.kind {
                        check_body(inner, &[], true, &mut found);
                    }
                }
            }
            _ => {}
        };
        match &def.value {
            DefValue::Expr(expr) => visit(expr, &mut look),
            DefValue::Body(body) => body.stmts.iter().for_each(|s| visit_stmt(s, &mut look)),
        }
        if let DefValue::Body(body) = &def.value {
            let roots: &[&str] = match def.kind {
                Kind::Model => &["loss", "backbone"],
                Kind::Mask => &["context", "target"],
                Kind::Fn | Kind::Block => &[],
            };
            check_body(body, roots, false, &mut found);
        }
        let (unread, twice): (Vec<_>, Vec<_>) = found.into_iter().partition(|u| u.diagnostic.code == "V0107");
        errors.extend(twice.into_iter().map(|u| u.diagnostic));
        self.unread.extend(unread);
    }

    /// Keeps what statements allow; a code that is no lint is a mistake.
    pub(super) fn allowances(&mut self, def: &Def, errors: &mut Vec<Diagnostic>) {
        let mut look = |stmt: &Stmt| {
            for code in &stmt.allow {
                if LINTS.contains(&&*code.text) {
                    self.allowed.push((code.text.to_string(), stmt.span));
                } else {
                    let d =
                        Diagnostic::error("V0102", format!("there is no lint `{}`", code.text), code.span, "unknown");
                    errors.push(d.help(format!("`allow` silences {}", LINTS.join(", "))));
                }
            }
        };
        match &def.value {
            DefValue::Expr(expr) => each_line(expr, &mut look),
            DefValue::Body(body) => each_stmt(body, &mut look),
        }
    }

    /// What is unread and that no tap in any file asks for.
    pub(super) fn take_unread(&mut self) -> Vec<Diagnostic> {
        let read = |name: &Rc<str>| self.fields_read.contains(name);
        let all = std::mem::take(&mut self.unread).into_iter();
        all.filter(|u| !u.equation.as_ref().is_some_and(read)).map(|u| u.diagnostic).collect()
    }
}

/// Looks through one body; `equations` are those of a `forward`.
fn check_body(body: &Body, roots: &[&str], equations: bool, found: &mut Vec<Unread>) {
    let reads: Vec<HashSet<Rc<str>>> = body.stmts.iter().map(|s| names_read(s)).collect();
    let mut seen: Vec<&Word> = vec![];
    let mut report = |diagnostic: Diagnostic, equation: Option<Rc<str>>| found.push(Unread { diagnostic, equation });
    for (i, stmt) in body.stmts.iter().enumerate() {
        for name in defined(stmt) {
            if let Some(first) = seen.iter().find(|w| w.text == name.text) {
                let text = format!("`{}` is defined twice", name.text);
                let d = Diagnostic::error("V0110", text, name.span, "second time").label(first.span, "first time");
                report(d, None);
                continue;
            }
            seen.push(name);
            let exempt = name.text.starts_with('_') || roots.contains(&&*name.text);
            let read = reads.iter().enumerate().any(|(j, r)| j != i && r.contains(&name.text));
            if !exempt && !read {
                let text = format!("nothing reads `{}`", name.text);
                let d = Diagnostic::error("V0107", text, name.span, "this changes nothing");
                let help = format!("use it, remove it, or call it `_{}` to keep it on purpose", name.text);
                report(d.help(help), equations.then(|| name.text.clone()));
            }
        }
        let read_elsewhere = |name: &Word| reads.iter().enumerate().any(|(j, r)| j != i && r.contains(&name.text));
        if let StmtKind::Section(name, _) = &stmt.kind
            && &*name.text != "train"
            && !read_elsewhere(name)
        {
            let text = format!("nothing reads the section `{}`", name.text);
            report(Diagnostic::error("V0107", text, name.span, "this changes nothing"), None);
        }
    }
    for (i, stmt) in body.stmts.iter().enumerate() {
        match &stmt.kind {
            StmtKind::Forward(_, inner) => check_body(inner, &[], true, found),
            StmtKind::Section(name, inner) if &*name.text == "train" => {
                // A helper may also be read from outside, as `train.horizon`.
                let mut outside: Vec<&str> = TRAIN_KEYS.to_vec();
                let others: HashSet<Rc<str>> =
                    reads.iter().enumerate().filter(|(j, _)| *j != i).flat_map(|(_, r)| r.clone()).collect();
                let mut named: Vec<&str> = others.iter().map(|n| &**n).collect();
                named.sort_unstable();
                outside.extend(named);
                check_body(inner, &outside, false, found);
            }
            _ => {}
        }
    }
}
