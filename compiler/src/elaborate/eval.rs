//! Expressions.

use std::rc::Rc;

use super::elementwise::is_tensor;
use super::scope::{ScopeRef, ThunkRef};
use super::units::Unit;
use super::value::{Interval, Num, Number, SIDES, Tensor, Value};
use super::{Elab, Res, Stop, suggest};
use crate::diag::Diagnostic;
use crate::ir::op::{BinaryOp, ReduceOp, UnaryOp};
use crate::model::{AxisId, NodeOp};
use crate::source::Span;
use crate::syntax::ast::{Expr, ExprKind, Kind, Op, Word};

/// Nested evaluations. Real models stay below 100.
const MAX_DEPTH: usize = 400;
/// Bytes of stack that an evaluation may use, whatever its depth: threads have at least 2 MiB.
const MAX_STACK: usize = 1 << 20;

impl Elab<'_> {
    /// The value of an expression in a scope.
    pub(super) fn eval(&mut self, expr: &Rc<Expr>, scope: &ScopeRef) -> Res<Value> {
        self.descend(expr.span)?;
        let result = self.eval_kind(expr, scope);
        self.depth -= 1;
        result
    }

    /// One level deeper, if there is room; whoever calls it takes one off `depth` afterwards.
    pub(super) fn descend(&mut self, span: Span) -> Res<()> {
        if self.depth >= MAX_DEPTH || self.stack_start.abs_diff(stack_position()) > MAX_STACK {
            return self.error("V0105", "this is too deeply nested", span, "evaluation went too deep here");
        }
        self.depth += 1;
        Ok(())
    }

    fn eval_kind(&mut self, expr: &Rc<Expr>, scope: &ScopeRef) -> Res<Value> {
        let span = expr.span;
        match &expr.kind {
            ExprKind::Number { value, whole, unit } => self.literal(*value, *whole, unit.as_ref()),
            ExprKind::Text(t) => Ok(Value::Text(t.clone())),
            ExprKind::Name(name) => self.name(name, scope, span),
            ExprKind::Tuple(items) => {
                let mut group = vec![];
                for item in items {
                    let label = item.name.as_ref().map(|w| w.text.clone());
                    group.push((label, self.eval(&item.value, scope)?));
                }
                Ok(Value::Group(Rc::new(group)))
            }
            ExprKind::List(items) => {
                let values: Res<Vec<Value>> = items.iter().map(|e| self.eval(e, scope)).collect();
                Ok(Value::List(Rc::new(values?)))
            }
            ExprKind::Arrow(items) => {
                let values: Res<Vec<Value>> = items.iter().map(|e| self.eval(e, scope)).collect();
                Ok(Value::Arrow(Rc::new(values?)))
            }
            ExprKind::Neg(x) => {
                let v = self.eval(x, scope)?;
                self.unary(UnaryOp::Neg, "-", &v, span)
            }
            ExprKind::Not(x) => self.not(x, scope, span),
            ExprKind::If(cond, then, other) => self.conditional(cond, then, other, scope, span),
            ExprKind::Binary(op, a, b) => self.infix(*op, a, b, scope, span),
            ExprKind::Field(x, name) => self.field_expr(expr, x, name, scope),
            ExprKind::With(x, body) => self.with(x, body, scope, span),
            ExprKind::Pick(x, items) => self.pick(x, items, scope, span),
            ExprKind::Call(f, args) => self.call(f, args, scope, expr),
            ExprKind::Each(body, gens) => self.each(body, gens, scope, span),
        }
    }

    fn literal(&self, value: f64, whole: bool, unit: Option<&Word>) -> Res<Value> {
        let unit = unit.map_or(Ok(Unit::None), |w| self.unit(w))?;
        let value = if whole && value.abs() < 9e15 { Number::Whole(value as i64) } else { Number::Real(value) };
        Ok(Value::Num(Num { value, unit, axis: None }))
    }

    /// The value of a name.
    pub(super) fn name(&mut self, name: &Rc<str>, scope: &ScopeRef, span: Span) -> Res<Value> {
        if let Some(old) = self.own_path(scope, name) {
            return self.force_named(&old, name, span);
        }
        match self.find(scope, name) {
            Some(thunk) => self.force_named(&thunk, name, span),
            None => match scope.label(name) {
                // A label is an axis, and an axis is a number.
                Some(axis) => match self.size(axis) {
                    Some(n) => Ok(Value::Num(Num { axis: Some(axis), ..Num::whole(n as i64) })),
                    None => Ok(Value::Axes(Rc::new(vec![axis]))),
                },
                None => Err(self.unknown_name(name, scope, span)),
            },
        }
    }

    /// Forces a thunk that has a name: a cycle is reported by that name.
    pub(super) fn force_named(&mut self, thunk: &ThunkRef, name: &str, span: Span) -> Res<Value> {
        match thunk.force(self) {
            Err(Stop::Cycle) => {
                let text = format!("`{name}` is defined in terms of itself");
                self.error("V0106", text, span, "needed to compute itself")
            }
            other => other,
        }
    }

    fn unknown_name(&self, name: &str, scope: &ScopeRef, span: Span) -> Stop {
        let d = Diagnostic::error("V0102", format!("`{name}` is not defined here"), span, "unknown name");
        if let Some(module) = self.std_module_of(name) {
            let help =
                format!("the standard library has it; add this line at the top: from std.{module} import {name}");
            return self.fail(d.help(help));
        }
        let all = self.names_in_scope(scope);
        let near = suggest::nearest(name, all.iter().map(|n| &**n)).map(|n| format!("did you mean `{n}`?"));
        let habit = match name {
            "None" => Some("write `none`".to_string()),
            "True" => Some("write `true`".to_string()),
            "False" => Some("write `false`".to_string()),
            _ => None,
        };
        self.fail(d.maybe_help(habit.or(near)))
    }

    fn not(&mut self, x: &Rc<Expr>, scope: &ScopeRef, span: Span) -> Res<Value> {
        match self.eval(x, scope)? {
            Value::Bool(b) => Ok(Value::Bool(!b)),
            v if is_tensor(&v) => self.unary(UnaryOp::Not, "not", &v, span),
            v => self.error(
                "V0104",
                format!("`not` needs true or false, found {}", v.kind()),
                x.span,
                "not a truth value",
            ),
        }
    }

    fn conditional(&mut self, c: &Rc<Expr>, a: &Rc<Expr>, b: &Rc<Expr>, scope: &ScopeRef, span: Span) -> Res<Value> {
        let cond = self.eval(c, scope)?;
        match cond {
            Value::Bool(true) => self.eval(a, scope),
            Value::Bool(false) => self.eval(b, scope),
            v if is_tensor(&v) => {
                let c = self.tensor(&v, span)?;
                let (x, y) = (self.eval(a, scope)?, self.eval(b, scope)?);
                let (x, y) = (self.tensor(&x, a.span)?, self.tensor(&y, b.span)?);
                Ok(Value::Tensor(self.elementwise(NodeOp::Select, &[c, x, y], "if", span)?))
            }
            v => self.error(
                "V0104",
                format!("`if` needs true or false, found {}", v.kind()),
                c.span,
                "not a truth value",
            ),
        }
    }

    fn infix(&mut self, op: Op, a: &Rc<Expr>, b: &Rc<Expr>, scope: &ScopeRef, span: Span) -> Res<Value> {
        let x = self.eval(a, scope)?;
        match (op, &x) {
            (Op::And, Value::Bool(false)) | (Op::Or, Value::Bool(true)) => return Ok(x),
            _ => {}
        }
        let y = self.eval(b, scope)?;
        match op {
            Op::Range | Op::RangeInclusive => {
                Ok(Value::Interval(Rc::new(Interval { lo: x, hi: y, closed: op == Op::RangeInclusive })))
            }
            Op::In => self.contains(&x, &y, b.span, span),
            Op::Over => self.over(&x, &y, a.span, b.span),
            Op::Then => self.then(&x, &y, a.span, b.span),
            Op::Join => self.join(x, y, span),
            Op::And | Op::Or if matches!(x, Value::Bool(_)) && matches!(y, Value::Bool(_)) => Ok(y),
            _ => self.binary(op, &x, &y, span),
        }
    }

    /// `x in lo..hi`.
    fn contains(&mut self, x: &Value, y: &Value, right: Span, span: Span) -> Res<Value> {
        let interval = match y {
            Value::Interval(interval) => interval,
            Value::All | Value::Builtin("all") => return Ok(Value::Bool(true)),
            Value::Tensor(index) if index.of.is_some() => return self.held(x, index, span),
            _ => {
                let text = format!("`in` needs an interval or an index set on its right, found {}", y.kind());
                let d = Diagnostic::error("V0104", text, right, "not an interval");
                return Err(self.fail(d.help("write `x in a..b`, or `a..=b` to include b")));
            }
        };
        let low = self.binary(Op::Ge, x, &interval.lo, span)?;
        let high = self.binary(if interval.closed { Op::Le } else { Op::Lt }, x, &interval.hi, span)?;
        match (&low, &high) {
            (Value::Bool(a), Value::Bool(b)) => Ok(Value::Bool(*a && *b)),
            (Value::Bool(false), _) | (_, Value::Bool(false)) => Ok(Value::Bool(false)),
            (Value::Bool(true), other) | (other, Value::Bool(true)) => Ok(other.clone()),
            _ => {
                let (a, b) = (self.tensor(&low, span)?, self.tensor(&high, span)?);
                Ok(Value::Tensor(self.elementwise(NodeOp::Binary(BinaryOp::And), &[a, b], "in", span)?))
            }
        }
    }

    /// `p in z.target`: whether an index set holds a position.
    fn held(&mut self, x: &Value, index: &Tensor, span: Span) -> Res<Value> {
        let position = self.tensor(x, span)?;
        let (Some(of), Some(counted)) = (index.of, index.axes.last().copied()) else {
            return self.error("V0207", "`in` asks an index set", span, self.show(index));
        };
        match (&position.loops[..], &self.node(position.node).op) {
            ([axis], NodeOp::Iota) if *axis == of => {
                let axes: Vec<AxisId> = index.axes.iter().copied().filter(|a| *a != counted).collect();
                let node_axes = [&[of], &axes[..]].concat();
                let outer = self.outer(index);
                let node = self.emit(NodeOp::Holds(of, counted), &[index.node], outer, node_axes, span);
                Ok(Value::Tensor(Tensor { node, axes, loops: vec![of], of: None, made: None }))
            }
            ([axis], NodeOp::Iota) => {
                let (runs, into) = (self.axis(*axis).name.clone(), self.axis(of).name.clone());
                let text = format!("these are positions of `{runs}`, but the index set points into `{into}`");
                let d = Diagnostic::error("V0207", text, span, format!("this is {}", self.show(index)));
                Err(self.fail(d.help(format!("run over it: `[ ... for p in {into} ]`"))))
            }
            _ => {
                let plain = Tensor { of: None, ..index.clone() };
                let equal = self.elementwise(NodeOp::Binary(BinaryOp::Eq), &[position, plain], "in", span)?;
                Ok(Value::Tensor(self.reduce(ReduceOp::Any, &equal, &[counted], span)))
            }
        }
    }

    fn field_expr(&mut self, expr: &Rc<Expr>, x: &Rc<Expr>, name: &Word, scope: &ScopeRef) -> Res<Value> {
        if let Some(path) = dotted(expr)
            && let Some(old) = self.own_path(scope, &path)
        {
            return self.force_named(&old, &path, expr.span);
        }
        let value = self.eval(x, scope)?;
        self.field(&value, name, dotted(x).as_deref().unwrap_or("this value"))
    }

    /// `value.name`.
    pub(super) fn field(&mut self, value: &Value, name: &Word, shown: &str) -> Res<Value> {
        match value {
            Value::Def(c) if c.def.kind == Kind::Model => {
                let model = self.model_of(c)?;
                self.instance_field(&model, name)
            }
            Value::Instance(i) | Value::Source(i) => self.instance_field(i, name),
            Value::Section(scope) => match scope.get(&name.text) {
                Some(thunk) => self.force_named(&thunk, &name.text, name.span),
                None => Err(self.no_field(shown, name, &scope.names())),
            },
            Value::Group(items) => match items.iter().find(|(l, _)| l.as_ref() == Some(&name.text)) {
                Some((_, v)) => Ok(v.clone()),
                None => {
                    let labels: Vec<Rc<str>> = items.iter().filter_map(|(l, _)| l.clone()).collect();
                    Err(self.no_field(shown, name, &labels))
                }
            },
            Value::List(items) => match name.text.parse::<usize>() {
                Ok(i) if i < items.len() => Ok(items[i].clone()),
                Ok(i) => {
                    let text = format!("this list has {} items, so there is no item {i}", items.len());
                    self.error("V0103", text, name.span, "not in the list")
                }
                Err(_) => Err(self.no_field(shown, name, &[])),
            },
            Value::Drawn(set) => match SIDES.iter().find(|(n, _)| *n == &*name.text) {
                Some((_, which)) => Ok(Value::Tensor(self.index_set(*set, *which, name.span)?)),
                None => Err(self.no_field("a drawn mask", name, &["context".into(), "target".into()])),
            },
            Value::Num(Num { axis: Some(axis), .. }) => {
                let factors = self.axis(*axis).factors.clone();
                match factors.iter().find(|f| self.axis(**f).name == name.text) {
                    Some(f) => {
                        let size = self.size(*f).unwrap_or(0) as i64;
                        Ok(Value::Num(Num { axis: Some(*f), ..Num::whole(size) }))
                    }
                    None => {
                        let names: Vec<Rc<str>> = factors.iter().map(|f| self.axis(*f).name.clone()).collect();
                        Err(self.no_field(shown, name, &names))
                    }
                }
            }
            Value::Tensor(Tensor { made: Some(made), .. }) => self.tapped(made, name),
            other => {
                let text = format!("{} has no field called `{}`", other.kind(), name.text);
                let d = Diagnostic::error("V0103", text, name.span, "no such field");
                let habit = match &*name.text {
                    "mean" | "sum" | "max" | "min" | "abs" | "sqrt" | "exp" => {
                        Some(format!("functions come first: `{0}(x)` or `{0}[axis](x)`", name.text))
                    }
                    _ if matches!(other, Value::Tensor(_)) => Some(
                        "only the result of a block, as the call gave it, has fields: what its `forward` computed"
                            .to_string(),
                    ),
                    _ => None,
                };
                Err(self.fail(d.maybe_help(habit)))
            }
        }
    }

    /// A message about a field that is not there.
    pub(super) fn no_field(&self, what: &str, name: &Word, known: &[Rc<str>]) -> Stop {
        let known: Vec<&str> = known.iter().map(|n| &**n).filter(|n| !n.contains(' ')).collect();
        let near = suggest::nearest(&name.text, known.iter().copied()).map(|n| format!("did you mean `{n}`?"));
        let text = format!("`{what}` has no field called `{}`", name.text).replace("`this value`", "this value");
        let mut d = Diagnostic::error("V0103", text, name.span, "no such field").maybe_help(near);
        if !known.is_empty() {
            d = d.note(format!("it has {}", known.join(", ")));
        }
        self.fail(d)
    }

    /// A thunk of an expression.
    pub(super) fn later(&self, expr: &Rc<Expr>, scope: &ScopeRef) -> ThunkRef {
        let (expr, scope) = (expr.clone(), scope.clone());
        self.thunk(move |elab| elab.eval(&expr, &scope))
    }
}

/// About where the stack ends at present.
pub fn stack_position() -> usize {
    let here = 0u8;
    std::ptr::from_ref(&here).addr()
}

/// `encoder.dim` as text, if the expression is a path.
pub fn dotted(expr: &Expr) -> Option<Rc<str>> {
    match &expr.kind {
        ExprKind::Name(n) => Some(n.clone()),
        ExprKind::Field(x, name) => dotted(x).map(|p| format!("{p}.{}", name.text).into()),
        _ => None,
    }
}

/// True if the expression is a bare name or path: then it passes the same axis on.
pub fn is_path(expr: &Expr) -> bool {
    dotted(expr).is_some()
}
