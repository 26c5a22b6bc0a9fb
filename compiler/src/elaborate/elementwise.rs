//! Elementwise operations: one side's axes must contain the other's, and loop variables broadcast freely.

use super::units::{number, whole};
use super::value::{Num, Number, Tensor, Value};
use super::{Elab, Res};
use crate::diag::Diagnostic;
use crate::ir::graph::Outer;
use crate::ir::op::{BinaryOp, UnaryOp};
use crate::model::{AxisId, NodeId, NodeOp, Schedule, schedule};
use crate::source::Span;
use crate::syntax::ast::Op;

/// The tensor operation of an infix sign, and the sign itself.
pub fn binary_op(op: Op) -> Option<(BinaryOp, &'static str)> {
    Some(match op {
        Op::Add => (BinaryOp::Add, "+"),
        Op::Sub => (BinaryOp::Sub, "-"),
        Op::Mul => (BinaryOp::Mul, "*"),
        Op::Div => (BinaryOp::Div, "/"),
        Op::Rem => (BinaryOp::Rem, "%"),
        Op::Pow => (BinaryOp::Pow, "^"),
        Op::Eq => (BinaryOp::Eq, "=="),
        Op::Ne => (BinaryOp::Ne, "!="),
        Op::Lt => (BinaryOp::Lt, "<"),
        Op::Le => (BinaryOp::Le, "<="),
        Op::Gt => (BinaryOp::Gt, ">"),
        Op::Ge => (BinaryOp::Ge, ">="),
        Op::And => (BinaryOp::And, "and"),
        Op::Or => (BinaryOp::Or, "or"),
        Op::Then | Op::Over | Op::In | Op::Range | Op::RangeInclusive | Op::Join => return None,
    })
}

impl Elab<'_> {
    /// An elementwise operation; `sign` names it in messages.
    pub(super) fn elementwise(&mut self, op: NodeOp, inputs: &[Tensor], sign: &str, span: Span) -> Res<Tensor> {
        let mut loops: Vec<AxisId> = vec![];
        let mut outer = Outer::One;
        let mut big = &inputs[0];
        for t in inputs {
            loops.extend(t.loops.iter().filter(|l| !loops.contains(l)).copied().collect::<Vec<_>>());
            outer = self.join_outer(outer, self.outer(t), span)?;
            if t.axes.len() > big.axes.len() {
                big = t;
            }
        }
        for t in inputs {
            if let Some(extra) = t.axes.iter().find(|a| !big.axes.contains(a)) {
                return Err(self.fail(self.outer_product(sign, t, *extra, big, span)));
            }
        }
        let axes = big.axes.clone();
        if let Some(twice) = axes.iter().find(|a| loops.contains(a)) {
            let text = format!("`{}` is a loop variable here and also an axis of a value", self.axis(*twice).name);
            let d = Diagnostic::error("V0205", text, span, "the result would have the axis twice");
            return Err(self.fail(d.help("take one position with `x[axis = i]`")));
        }
        let mut node_axes = loops.clone();
        node_axes.extend(&axes);
        let nodes: Vec<NodeId> = inputs.iter().map(|t| t.node).collect();
        let node = self.emit(op, &nodes, outer, node_axes, span);
        Ok(Tensor { node, axes, loops, of: None, made: None })
    }

    fn outer_product(&self, sign: &str, small: &Tensor, extra: AxisId, big: &Tensor, span: Span) -> Diagnostic {
        let missing = big.axes.iter().find(|a| !small.axes.contains(a)).copied();
        let (a, b) = (self.axis(extra), missing.map(|m| self.axis(m)));
        let text = match b {
            Some(b) => format!("`{sign}` would need an outer product of `{}` and `{}`", a.name, b.name),
            None => format!("`{sign}` would need an outer product"),
        };
        let label = format!("{} and {}", self.show(small), self.show(big));
        let d = Diagnostic::error("V0205", text, span, label);
        let twin = big.axes.iter().find(|m| **m != extra && self.axis(**m).name == a.name);
        match twin {
            Some(t) => d.note(format!(
                "both sides have an axis called `{}`, but they are different axes ({} and {})",
                a.name,
                self.show_size(extra),
                self.show_size(*t)
            )),
            None => d.note("elementwise operations never make outer products; use `dot[]` when one is wanted"),
        }
    }

    /// `a op b`.
    pub(super) fn binary(&mut self, op: Op, a: &Value, b: &Value, span: Span) -> Res<Value> {
        let Some((tensor_op, sign)) = binary_op(op) else {
            return self.error("V0104", "this operation does not apply here", span, "cannot be computed");
        };
        if let (Value::Num(x), Value::Num(y)) = (a, b) {
            return match op {
                Op::Eq | Op::Ne | Op::Lt | Op::Le | Op::Gt | Op::Ge => Ok(Value::Bool(self.compare(op, *x, *y, span)?)),
                Op::And | Op::Or => self.not_truth(sign, a, span),
                _ => Ok(Value::Num(self.arithmetic(op, *x, *y, span)?)),
            };
        }
        let absent = |v: &Value| matches!(v, Value::None | Value::All | Value::Builtin("all"));
        if matches!(op, Op::Eq | Op::Ne) && (absent(a) || absent(b)) {
            return self.equal(a, b, span).map(|same| Value::Bool(same == (op == Op::Eq)));
        }
        if is_tensor(a) || is_tensor(b) {
            for v in [a, b] {
                if !is_tensor(v) && !matches!(v, Value::Num(_) | Value::Bool(_) | Value::Schedule(_) | Value::Arrow(_))
                {
                    let text = format!("`{sign}` cannot combine {} and {}", a.kind(), b.kind());
                    return self.error("V0104", text, span, "not a tensor or a number");
                }
            }
            if let Some(same) = unchanged(op, a, b) {
                return Ok(same.clone());
            }
            let (x, y) = (self.tensor(a, span)?, self.tensor(b, span)?);
            return Ok(Value::Tensor(self.elementwise(NodeOp::Binary(tensor_op), &[x, y], sign, span)?));
        }
        if let (Value::Schedule(_) | Value::Arrow(_), _) | (_, Value::Schedule(_) | Value::Arrow(_)) = (a, b)
            && let Some(arith) = arith(tensor_op)
        {
            let (x, y) = (self.schedule(a, span)?, self.schedule(b, span)?);
            return Ok(Value::Schedule(std::rc::Rc::new(Schedule::Arith(arith, Box::new(x), Box::new(y)))));
        }
        match (op, a, b) {
            (Op::Eq, _, _) | (Op::Ne, _, _) => self.equal(a, b, span).map(|same| Value::Bool(same == (op == Op::Eq))),
            (Op::And | Op::Or, Value::Bool(_), other) | (Op::And | Op::Or, other, _) => {
                self.not_truth(sign, other, span)
            }
            _ => {
                let text = format!("`{sign}` cannot combine {} and {}", a.kind(), b.kind());
                self.error("V0104", text, span, "cannot be computed")
            }
        }
    }

    fn equal(&self, a: &Value, b: &Value, span: Span) -> Res<bool> {
        let is_all = |v: &Value| matches!(v, Value::All | Value::Builtin("all"));
        match (a, b) {
            (Value::None, Value::None) => Ok(true),
            (Value::None, _) | (_, Value::None) => Ok(false),
            _ if is_all(a) || is_all(b) => Ok(is_all(a) && is_all(b)),
            (Value::Bool(x), Value::Bool(y)) => Ok(x == y),
            (Value::Text(x), Value::Text(y)) => Ok(x == y),
            _ => {
                let text = format!("{} and {} cannot be compared", a.kind(), b.kind());
                self.error("V0104", text, span, "cannot be compared")
            }
        }
    }

    fn not_truth(&self, sign: &str, found: &Value, span: Span) -> Res<Value> {
        self.error("V0104", format!("`{sign}` needs true or false, found {}", found.kind()), span, "not a truth value")
    }

    /// A function of one argument, on numbers, schedules and tensors alike.
    pub(super) fn unary(&mut self, op: UnaryOp, name: &str, v: &Value, span: Span) -> Res<Value> {
        match v {
            Value::Num(n) => Ok(Value::Num(self.unary_number(op, name, *n, span)?)),
            Value::Schedule(_) | Value::Arrow(_) => {
                let Some(function) = function(op) else {
                    return self.error("V0104", format!("`{name}` does not apply to a schedule"), span, "a schedule");
                };
                let inner = self.schedule(v, span)?;
                Ok(Value::Schedule(std::rc::Rc::new(Schedule::Map(function, Box::new(inner)))))
            }
            _ => {
                let t = self.tensor(v, span)?;
                Ok(Value::Tensor(self.elementwise(NodeOp::Unary(op), &[t], name, span)?))
            }
        }
    }

    fn unary_number(&self, op: UnaryOp, name: &str, n: Num, span: Span) -> Res<Num> {
        let x = n.value.real();
        let keep = |value| Num { value, unit: n.unit, axis: None };
        let bare = |x| Num::real(x);
        if matches!(op, UnaryOp::Sqrt if x < 0.0) || matches!(op, UnaryOp::Log if x <= 0.0) {
            let text = format!("`{name}` of {} is not a real number", super::units::show(n));
            return self.error("V0104", text, span, "out of range");
        }
        Ok(match op {
            UnaryOp::Neg => keep(number(Op::Sub, Number::Whole(0), n.value)),
            UnaryOp::Abs => match n.value {
                Number::Whole(i) => keep(Number::Whole(i.saturating_abs())),
                Number::Real(x) => keep(Number::Real(x.abs())),
            },
            UnaryOp::Floor => keep(whole(x.floor())),
            UnaryOp::Ceil => keep(whole(x.ceil())),
            UnaryOp::Round => keep(whole(x.round_ties_even())),
            UnaryOp::Sign => Num::whole(if x > 0.0 {
                1
            } else if x < 0.0 {
                -1
            } else {
                0
            }),
            UnaryOp::Exp => bare(libm::exp(x)),
            UnaryOp::Log => bare(libm::log(x)),
            UnaryOp::Sqrt => bare(x.sqrt()),
            UnaryOp::Sin => bare(libm::sin(x)),
            UnaryOp::Cos => bare(libm::cos(x)),
            UnaryOp::Tanh => bare(libm::tanh(x)),
            UnaryOp::Erf => bare(libm::erf(x)),
            UnaryOp::Not => return self.error("V0104", "`not` needs true or false, found a number", span, "a number"),
        })
    }

    /// `min(a, b)` and `max(a, b)`.
    pub(super) fn extreme(&mut self, op: BinaryOp, name: &str, a: &Value, b: &Value, span: Span) -> Res<Value> {
        if let (Value::Num(x), Value::Num(y)) = (a, b) {
            if x.unit.is_some() && y.unit.is_some() && x.unit != y.unit {
                return self.error("V0301", format!("`{name}` of two different units"), span, "these do not compare");
            }
            let first =
                if op == BinaryOp::Min { x.value.real() <= y.value.real() } else { x.value.real() >= y.value.real() };
            return Ok(Value::Num(if first { x.plain() } else { y.plain() }));
        }
        if !is_tensor(a)
            && !is_tensor(b)
            && let Some(arith) = arith(op)
        {
            let (x, y) = (self.schedule(a, span)?, self.schedule(b, span)?);
            return Ok(Value::Schedule(std::rc::Rc::new(Schedule::Arith(arith, Box::new(x), Box::new(y)))));
        }
        let (x, y) = (self.tensor(a, span)?, self.tensor(b, span)?);
        Ok(Value::Tensor(self.elementwise(NodeOp::Binary(op), &[x, y], name, span)?))
    }
}

/// True for values that live in the graph.
pub fn is_tensor(v: &Value) -> bool {
    matches!(v, Value::Tensor(_) | Value::Stacked(..) | Value::Source(_))
}

/// `x + 0`, as a linear layer without bias writes it, and what else changes nothing for a truth value.
fn unchanged<'v>(op: Op, a: &'v Value, b: &'v Value) -> Option<&'v Value> {
    let zero = |v: &Value| matches!(v, Value::Num(n) if n.value.real() == 0.0);
    match op {
        Op::Add if zero(b) => Some(a),
        Op::Add if zero(a) => Some(b),
        Op::Sub if zero(b) => Some(a),
        Op::And => match (a, b) {
            (Value::Bool(true), x) | (x, Value::Bool(true)) => Some(x),
            _ => None,
        },
        Op::Or => match (a, b) {
            (Value::Bool(false), x) | (x, Value::Bool(false)) => Some(x),
            _ => None,
        },
        _ => None,
    }
}

fn arith(op: BinaryOp) -> Option<schedule::Arith> {
    Some(match op {
        BinaryOp::Add => schedule::Arith::Add,
        BinaryOp::Sub => schedule::Arith::Sub,
        BinaryOp::Mul => schedule::Arith::Mul,
        BinaryOp::Div => schedule::Arith::Div,
        BinaryOp::Rem => schedule::Arith::Rem,
        BinaryOp::Pow => schedule::Arith::Pow,
        BinaryOp::Min => schedule::Arith::Min,
        BinaryOp::Max => schedule::Arith::Max,
        _ => return None,
    })
}

fn function(op: UnaryOp) -> Option<schedule::Function> {
    Some(match op {
        UnaryOp::Neg => schedule::Function::Neg,
        UnaryOp::Exp => schedule::Function::Exp,
        UnaryOp::Log => schedule::Function::Log,
        UnaryOp::Sqrt => schedule::Function::Sqrt,
        UnaryOp::Abs => schedule::Function::Abs,
        UnaryOp::Sin => schedule::Function::Sin,
        UnaryOp::Cos => schedule::Function::Cos,
        UnaryOp::Tanh => schedule::Function::Tanh,
        UnaryOp::Floor => schedule::Function::Floor,
        UnaryOp::Ceil => schedule::Function::Ceil,
        UnaryOp::Round => schedule::Function::Round,
        UnaryOp::Erf | UnaryOp::Sign | UnaryOp::Not => return None,
    })
}
