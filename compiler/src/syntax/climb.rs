//! Operators by precedence (LANGUAGE 3.13): the grammar gives a flat chain of prefixes, atoms, postfixes and signs.

use std::rc::Rc;

use pest::iterators::Pair;

use super::ast::*;
use super::habits;
use super::parse::{Builder, Rule};
use crate::source::Span;

/// Loosest first; a larger number binds tighter. `if else` stands outside of chains.
pub(super) mod level {
    pub const IF: u8 = 0;
    pub const THEN: u8 = 1;
    pub const OVER: u8 = 2;
    pub const ARROW: u8 = 3;
    pub const OR: u8 = 4;
    pub const AND: u8 = 5;
    pub const NOT: u8 = 6;
    pub const COMPARE: u8 = 7;
    pub const RANGE: u8 = 8;
    pub const JOIN: u8 = 9;
    pub const ADD: u8 = 10;
    pub const MUL: u8 = 11;
    pub const NEG: u8 = 12;
    pub const POW: u8 = 13;
    pub const POSTFIX: u8 = 14;
}

/// How tight an operator binds.
pub(super) fn binding(op: Op) -> u8 {
    match op {
        Op::Then => level::THEN,
        Op::Over => level::OVER,
        Op::Or => level::OR,
        Op::And => level::AND,
        Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::In => level::COMPARE,
        Op::Range | Op::RangeInclusive => level::RANGE,
        Op::Join => level::JOIN,
        Op::Add | Op::Sub => level::ADD,
        Op::Mul | Op::Div | Op::Rem => level::MUL,
        Op::Pow => level::POW,
    }
}

/// Every operator with its sign.
const SIGNS: [(&str, Op); 20] = [
    ("then", Op::Then),
    ("over", Op::Over),
    ("or", Op::Or),
    ("and", Op::And),
    ("==", Op::Eq),
    ("!=", Op::Ne),
    ("<", Op::Lt),
    ("<=", Op::Le),
    (">", Op::Gt),
    (">=", Op::Ge),
    ("in", Op::In),
    ("..", Op::Range),
    ("..=", Op::RangeInclusive),
    ("++", Op::Join),
    ("+", Op::Add),
    ("-", Op::Sub),
    ("*", Op::Mul),
    ("/", Op::Div),
    ("%", Op::Rem),
    ("^", Op::Pow),
];

/// The sign of an operator as written.
pub(super) fn sign(op: Op) -> &'static str {
    SIGNS.iter().find(|s| s.1 == op).map_or("", |s| s.0)
}

#[derive(Clone, Copy, PartialEq)]
enum Infix {
    Arrow,
    Op(Op),
}

impl Infix {
    fn level(self) -> u8 {
        match self {
            Infix::Arrow => level::ARROW,
            Infix::Op(op) => binding(op),
        }
    }
}

enum Item {
    Prefix(bool, Span),
    Operand(Rc<Expr>),
    Infix(Infix, Span),
}

/// One chain of terms and operators as a tree.
pub(super) fn chain(builder: &mut Builder, pair: Pair<Rule>) -> Rc<Expr> {
    let mut items = vec![];
    for child in pair.into_inner() {
        match child.as_rule() {
            Rule::op => {
                let word = builder.word(child);
                let op = SIGNS.iter().find(|s| s.0 == &*word.text).map_or(Infix::Arrow, |s| Infix::Op(s.1));
                items.push(Item::Infix(op, word.span));
            }
            _ => term(builder, child, &mut items),
        }
    }
    let mut climber = Climber { items: items.into_iter().peekable(), builder };
    climber.climb(level::IF)
}

fn term(builder: &mut Builder, pair: Pair<Rule>, items: &mut Vec<Item>) {
    let mut operand: Option<Rc<Expr>> = None;
    for child in pair.into_inner() {
        match child.as_rule() {
            Rule::prefix => {
                let span = builder.span(&child);
                items.push(Item::Prefix(child.as_str() == "-", span));
            }
            Rule::atom => operand = Some(builder.atom(child)),
            _ => operand = operand.map(|value| postfix(builder, value, child)),
        }
    }
    items.push(Item::Operand(operand.expect("the grammar asks for an atom")));
}

fn postfix(builder: &mut Builder, value: Rc<Expr>, pair: Pair<Rule>) -> Rc<Expr> {
    let inner = pair.into_inner().next().expect("the grammar asks for a call, pick, field or with");
    let span = value.span.to(builder.span(&inner));
    let kind = match inner.as_rule() {
        Rule::call => {
            let args = builder.args(inner);
            builder.errors.extend(args.iter().filter_map(habits::colon_in_call));
            ExprKind::Call(value, args)
        }
        Rule::pick => ExprKind::Pick(value, builder.args(inner)),
        Rule::field => {
            let name = inner.into_inner().next().expect("the grammar asks for a name");
            ExprKind::Field(value, builder.word(name))
        }
        _ => {
            let body = inner.into_inner().find(|c| c.as_rule() == Rule::body);
            ExprKind::With(value, builder.body(body.expect("the grammar asks for a body")))
        }
    };
    Rc::new(Expr { kind, span })
}

struct Climber<'b, 'a> {
    items: std::iter::Peekable<std::vec::IntoIter<Item>>,
    builder: &'b mut Builder<'a>,
}

impl Climber<'_, '_> {
    /// An expression of operators that bind at least as tight as `loosest`.
    fn climb(&mut self, loosest: u8) -> Rc<Expr> {
        let mut left = self.operand();
        let mut last = None;
        while let Some(&Item::Infix(infix, span)) = self.items.peek() {
            let level = infix.level();
            if level < loosest {
                break;
            }
            self.items.next();
            if last == Some(level) && matches!(level, level::COMPARE | level::RANGE) {
                self.builder.errors.push(habits::chained(level == level::COMPARE, span));
            }
            let right_first = infix == Infix::Op(Op::Pow);
            let right = self.climb(if right_first { level } else { level + 1 });
            let span = left.span.to(right.span);
            let kind = match infix {
                Infix::Op(op) => ExprKind::Binary(op, left, right),
                // Only an arrow that this loop made is continued; one in parentheses stays a part.
                Infix::Arrow if last == Some(level) => {
                    let mut stops = match &left.kind {
                        ExprKind::Arrow(stops) => stops.clone(),
                        _ => vec![left.clone()],
                    };
                    stops.push(right);
                    ExprKind::Arrow(stops)
                }
                Infix::Arrow => ExprKind::Arrow(vec![left, right]),
            };
            left = Rc::new(Expr { kind, span });
            last = Some(level);
        }
        left
    }

    fn operand(&mut self) -> Rc<Expr> {
        match self.items.next() {
            Some(Item::Operand(value)) => value,
            Some(Item::Prefix(minus, start)) => {
                let value = self.climb(if minus { level::NEG } else { level::NOT });
                let span = start.to(value.span);
                let kind = if minus { ExprKind::Neg(value) } else { ExprKind::Not(value) };
                Rc::new(Expr { kind, span })
            }
            Some(Item::Infix(..)) | None => unreachable!("compiler bug: the grammar alternates terms and operators"),
        }
    }
}
