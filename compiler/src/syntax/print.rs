//! An `Ast` back to source text that parses to the same tree.
//!
//! `resolved.vjepa` is written this way. The layout is fixed and plain: two spaces a level, one statement a line;
//! parentheses only where precedence asks for them. Ordinary comments are not in the tree and are lost.

use super::ast::*;
use super::climb::{binding, level, sign};

/// A whole file.
pub fn print_ast(ast: &Ast) -> String {
    let mut out = String::new();
    for import in &ast.imports {
        let name = |(there, here): &(Word, Word)| match there.text == here.text {
            true => there.text.to_string(),
            false => format!("{} as {}", there.text, here.text),
        };
        let names: Vec<String> = import.names.iter().map(name).collect();
        out.push_str(&format!("from {} import {}\n", import.module.text, names.join(", ")));
    }
    for def in &ast.defs {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&print_def(def));
    }
    out
}

/// A definition with its comment, ended by a line break.
pub fn print_def(def: &Def) -> String {
    let mut out = String::new();
    for line in def.doc.iter().flat_map(|d| d.split('\n')) {
        out.push_str(format!("## {line}").trim_end());
        out.push('\n');
    }
    let kind = match def.kind {
        Kind::Fn => "fn",
        Kind::Block => "block",
        Kind::Mask => "mask",
        Kind::Model => "model",
    };
    out.push_str(&format!("{kind} {}{}", def.name.text, axes(&def.axes)));
    if !def.formals.is_empty() || def.kind == Kind::Fn {
        out.push_str(&formals(&def.formals, 0));
    }
    match &def.value {
        DefValue::Body(value) => out.push_str(&format!(" {}", body(value, 0))),
        DefValue::Expr(value) => out.push_str(&format!(" = {}", print_expr(value))),
    }
    out.push('\n');
    out
}

/// An expression; the bodies in it, if any, take several lines.
pub fn print_expr(expr: &Expr) -> String {
    print_at(expr, level::IF, 0)
}

/// A statement without a line break, the bodies in it indented from `depth` levels on.
pub fn print_stmt(stmt: &Stmt, depth: usize) -> String {
    let text = print_kind(stmt, depth);
    if stmt.allow.is_empty() {
        return text;
    }
    // On a line of its own: behind a number it would be read as a unit.
    let codes: Vec<&str> = stmt.allow.iter().map(|w| &*w.text).collect();
    format!("{text}\n{}allow({})", "  ".repeat(depth + 1), codes.join(", "))
}

fn print_kind(stmt: &Stmt, depth: usize) -> String {
    let value = |e: &Expr| print_at(e, level::IF, depth);
    match &stmt.kind {
        StmtKind::Learn(learn) => {
            let word = if learn.trained { "param" } else { "buffer" };
            let assign = if learn.drawn { "~" } else { "=" };
            let condition = learn.condition.as_ref().map_or(String::new(), |c| format!(" if {}", value(c)));
            let (list, key, shape) = (axes(&learn.list), key(&learn.key), shape(&learn.shape, depth));
            // A choice would take the condition's `if` for its own.
            let loosest = if learn.condition.is_some() { level::THEN } else { level::IF };
            let init = print_at(&learn.init, loosest, depth);
            format!("{word} {}{list}{key}: {shape} {assign} {init}{condition}", learn.name.text)
        }
        StmtKind::Require(condition, None) => format!("require {}", value(condition)),
        StmtKind::Require(condition, Some(message)) => {
            format!("require {} : {}", value(condition), text(&message.text))
        }
        StmtKind::Forward(inputs, content) => {
            let head = format!("forward{}", formals(inputs, depth));
            match content.stmts.as_slice() {
                [only] if matches!(only.kind, StmtKind::Return(_)) => match &only.kind {
                    StmtKind::Return(result) => format!("{head} = {}", value(result)),
                    _ => head,
                },
                _ => format!("{head} {}", body(content, depth)),
            }
        }
        StmtKind::Return(result) => format!("return {}", value(result)),
        StmtKind::Metric(name, result) => format!("metric {} = {}", name.text, value(result)),
        StmtKind::Section(name, content) => format!("{} {}", name.text, body(content, depth)),
        StmtKind::Draw { name, axes: over, from, per } => {
            let per = per.as_ref().map_or(String::new(), |p| format!(" per {}", p.text));
            format!("{}{} ~ {}{per}", name.text, axes(over), value(from))
        }
        StmtKind::Bind { targets, key: stored, kind, value: result } => {
            let targets: Vec<String> = targets.iter().map(path).collect();
            let kind = kind.as_ref().map_or(String::new(), |k| format!(": {}", formal_kind(k, depth)));
            format!("{}{}{kind} = {}", targets.join(", "), key(stored), value(result))
        }
    }
}

/// `a.b.0`
pub fn path(path: &Path) -> String {
    path.parts.iter().map(|p| &*p.text).collect::<Vec<_>>().join(".")
}

fn body(body: &Body, depth: usize) -> String {
    if body.stmts.is_empty() {
        return "{}".to_owned();
    }
    let inner = "  ".repeat(depth + 1);
    let lines = body.stmts.iter().map(|s| format!("{inner}{}\n", print_stmt(s, depth + 1)));
    format!("{{\n{}{}}}", lines.collect::<String>(), "  ".repeat(depth))
}

fn axes(names: &[Word]) -> String {
    if names.is_empty() { String::new() } else { format!("[{}]", words(names)) }
}

fn words(names: &[Word]) -> String {
    names.iter().map(|n| &*n.text).collect::<Vec<_>>().join(", ")
}

fn key(key: &Option<Word>) -> String {
    key.as_ref().map_or(String::new(), |k| format!(" {}", text(&k.text)))
}

fn shape(shape: &[std::rc::Rc<Expr>], depth: usize) -> String {
    let items: Vec<String> = shape.iter().map(|e| print_at(e, level::IF, depth)).collect();
    format!("[{}]", items.join(", "))
}

fn formals(list: &[Formal], depth: usize) -> String {
    let items: Vec<String> = list.iter().map(|f| formal(f, depth)).collect();
    format!("({})", items.join(", "))
}

fn formal(formal: &Formal, depth: usize) -> String {
    let names = formal.names.iter().map(|n| &*n.text).collect::<Vec<_>>().join(" -> ");
    let kind = formal.kind.as_ref().map_or(String::new(), |k| format!(": {}", formal_kind(k, depth)));
    let default = formal.default.as_ref().map_or(String::new(), |d| format!(" = {}", print_at(d, level::IF, depth)));
    format!("{names}{kind}{default}")
}

fn formal_kind(kind: &FormalKind, depth: usize) -> String {
    match kind {
        FormalKind::Shape(items, None) => shape(items, depth),
        FormalKind::Shape(items, Some(of)) => format!("{} in {}", shape(items, depth), of.text),
        FormalKind::Group(names) => format!("({})", words(names)),
    }
}

fn text(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Shortest digits that read back as the same number.
fn number(value: f64, whole: bool) -> String {
    if value.is_nan() {
        return "0 / 0".to_owned();
    }
    if value.is_infinite() {
        return "inf".to_owned();
    }
    if whole { format!("{:.0}", value.abs()) } else { format!("{:?}", value.abs()) }
}

/// How tight the outermost operator of an expression binds.
fn own_level(expr: &Expr) -> u8 {
    match &expr.kind {
        // A tree that was computed rather than parsed may hold a negative number.
        ExprKind::Number { value, .. } if value.is_sign_negative() => level::NEG,
        ExprKind::Number { value, .. } if value.is_nan() => level::MUL,
        ExprKind::If(..) => level::IF,
        ExprKind::Arrow(_) => level::ARROW,
        ExprKind::Neg(_) => level::NEG,
        ExprKind::Not(_) => level::NOT,
        ExprKind::Binary(op, ..) => binding(*op),
        ExprKind::Number { .. }
        | ExprKind::Text(_)
        | ExprKind::Name(_)
        | ExprKind::Tuple(_)
        | ExprKind::List(_)
        | ExprKind::Each(..)
        | ExprKind::Call(..)
        | ExprKind::Pick(..)
        | ExprKind::Field(..)
        | ExprKind::With(..) => level::POSTFIX,
    }
}

/// An expression where at least `loosest` must bind, in parentheses if it does not.
fn print_at(expr: &Expr, loosest: u8, depth: usize) -> String {
    let plain = print_plain(expr, depth);
    if own_level(expr) < loosest { format!("({plain})") } else { plain }
}

fn print_plain(expr: &Expr, depth: usize) -> String {
    let at = |e: &Expr, loosest: u8| print_at(e, loosest, depth);
    let exprs = |list: &[std::rc::Rc<Expr>], loosest: u8, between: &str| {
        list.iter().map(|e| print_at(e, loosest, depth)).collect::<Vec<_>>().join(between)
    };
    match &expr.kind {
        ExprKind::Number { value, whole, unit } => {
            let minus = if value.is_sign_negative() && !value.is_nan() { "-" } else { "" };
            let unit = unit.as_ref().map_or(String::new(), |u| format!(" {}", u.text));
            format!("{minus}{}{unit}", number(*value, *whole))
        }
        ExprKind::Text(content) => text(content),
        ExprKind::Name(name) => name.to_string(),
        ExprKind::Tuple(items) => match items.as_slice() {
            [only] if only.name.is_none() => format!("({},)", at(&only.value, level::IF)),
            _ => format!("({})", args(items, depth)),
        },
        ExprKind::List(items) => format!("[{}]", exprs(items, level::IF, ", ")),
        ExprKind::Each(item, gens) => {
            let over = |g: &Gen| {
                let word = if g.drawn { "~" } else { "in" };
                format!("{} {word} {}", words(&g.names), at(&g.over, level::IF))
            };
            let gens: Vec<String> = gens.iter().map(over).collect();
            format!("[{} for {}]", at(item, level::IF), gens.join(", "))
        }
        ExprKind::Arrow(stops) => exprs(stops, level::ARROW + 1, " -> "),
        ExprKind::Neg(inner) => format!("-{}", at(inner, level::NEG)),
        ExprKind::Not(inner) => format!("not {}", at(inner, level::NOT)),
        ExprKind::Binary(op, a, b) => {
            let own = binding(*op);
            let (left, right) = match *op {
                Op::Pow => (own + 1, own),
                Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::In | Op::Range | Op::RangeInclusive => {
                    (own + 1, own + 1)
                }
                Op::Then | Op::Over | Op::Or | Op::And => (own, own + 1),
                Op::Join | Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Rem => (own, own + 1),
            };
            let gap = if matches!(op, Op::Range | Op::RangeInclusive) { "" } else { " " };
            format!("{}{gap}{}{gap}{}", at(a, left), sign(*op), at(b, right))
        }
        ExprKind::If(condition, then, otherwise) => {
            let (then, condition) = (at(then, level::THEN), at(condition, level::THEN));
            format!("{then} if {condition} else {}", at(otherwise, level::IF))
        }
        ExprKind::Call(callee, items) => format!("{}({})", base(callee, depth), args(items, depth)),
        ExprKind::Pick(value, items) => format!("{}[{}]", base(value, depth), args(items, depth)),
        ExprKind::Field(value, name) => format!("{}.{}", base(value, depth), name.text),
        ExprKind::With(value, changes) => format!("{} with {}", base(value, depth), body(changes, depth)),
    }
}

/// What a call, pick, field or `with` applies to.
fn base(expr: &Expr, depth: usize) -> String {
    // `3.x` would read as a broken number.
    let loosest = if matches!(expr.kind, ExprKind::Number { .. }) { u8::MAX } else { level::POSTFIX };
    print_at(expr, loosest, depth)
}

fn args(items: &[Arg], depth: usize) -> String {
    let item = |arg: &Arg| {
        let value = print_at(&arg.value, level::IF, depth);
        match &arg.name {
            Some(name) if arg.colon => format!("{}: {value}", name.text),
            Some(name) => format!("{} = {value}", name.text),
            None => value,
        }
    };
    items.iter().map(item).collect::<Vec<_>>().join(", ")
}
