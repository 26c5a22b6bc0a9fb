//! Schedules: numbers that depend on the step (LANGUAGE 3.8), evaluated in f64.

use serde::{Deserialize, Serialize};

/// A number that depends on the step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Schedule {
    /// The same at every step.
    Constant(f64),
    /// `a -> b`: goes from a to b while progress goes from 0 to 1.
    Ramp(f64, f64),
    /// `s over n`: progress reaches 1 at step n and stays there.
    Over(Box<Schedule>, f64),
    /// `s then t`: s through step `length`, then t with its steps counted from there.
    Then(Box<Schedule>, f64, Box<Schedule>),
    /// A function of one argument, by name: `neg exp log sqrt abs sin cos tanh floor ceil round`.
    Map(Function, Box<Schedule>),
    /// Arithmetic, pointwise in the step.
    Arith(Arith, Box<Schedule>, Box<Schedule>),
}

/// Functions of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Function {
    Neg,
    Exp,
    Log,
    Sqrt,
    Abs,
    Sin,
    Cos,
    Tanh,
    Floor,
    Ceil,
    Round,
}

/// Arithmetic on schedules.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Arith {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Pow,
    Min,
    Max,
}

impl Schedule {
    /// The value at `step`, for a run of `total` steps; a piece without `over` ends at `total`.
    pub fn at(&self, step: f64, total: f64) -> f64 {
        self.eval(step, total, total)
    }

    /// `span`: the steps over which a ramp goes from 0 to 1; `total`: steps left for an open last piece.
    fn eval(&self, step: f64, span: f64, total: f64) -> f64 {
        match self {
            Schedule::Constant(v) => *v,
            Schedule::Ramp(a, b) => {
                let p = if span > 0.0 { (step / span).clamp(0.0, 1.0) } else { 1.0 };
                a + (b - a) * p
            }
            Schedule::Over(s, n) => s.eval(step, *n, *n),
            Schedule::Then(s, length, t) => {
                if *length > 0.0 && step <= *length {
                    s.eval(step, *length, *length)
                } else {
                    let rest = total - length;
                    t.eval(step - length, rest, rest)
                }
            }
            Schedule::Map(f, s) => {
                let x = s.eval(step, span, total);
                match f {
                    Function::Neg => -x,
                    Function::Exp => libm::exp(x),
                    Function::Log => libm::log(x),
                    Function::Sqrt => libm::sqrt(x),
                    Function::Abs => x.abs(),
                    Function::Sin => libm::sin(x),
                    Function::Cos => libm::cos(x),
                    Function::Tanh => libm::tanh(x),
                    Function::Floor => x.floor(),
                    Function::Ceil => x.ceil(),
                    Function::Round => x.round_ties_even(),
                }
            }
            Schedule::Arith(op, a, b) => {
                let (a, b) = (a.eval(step, span, total), b.eval(step, span, total));
                match op {
                    Arith::Add => a + b,
                    Arith::Sub => a - b,
                    Arith::Mul => a * b,
                    Arith::Div => a / b,
                    Arith::Rem => a - b * (a / b).floor(),
                    Arith::Pow => libm::pow(a, b),
                    Arith::Min => a.min(b),
                    Arith::Max => a.max(b),
                }
            }
        }
    }

    /// True if it gives whole numbers only.
    pub fn is_whole(&self) -> bool {
        match self {
            Schedule::Constant(x) => x.fract() == 0.0,
            Schedule::Ramp(a, b) => a == b && a.fract() == 0.0,
            Schedule::Over(s, _) => s.is_whole(),
            Schedule::Then(s, _, t) => s.is_whole() && t.is_whole(),
            Schedule::Map(Function::Floor | Function::Ceil | Function::Round, _) => true,
            Schedule::Map(Function::Neg | Function::Abs, s) => s.is_whole(),
            Schedule::Map(
                Function::Exp | Function::Log | Function::Sqrt | Function::Sin | Function::Cos | Function::Tanh,
                _,
            ) => false,
            Schedule::Arith(Arith::Add | Arith::Sub | Arith::Mul | Arith::Rem | Arith::Min | Arith::Max, a, b) => {
                a.is_whole() && b.is_whole()
            }
            Schedule::Arith(Arith::Div | Arith::Pow, ..) => false,
        }
    }

    /// How many steps it lasts, if `over` says so.
    pub fn length(&self) -> Option<f64> {
        match self {
            Schedule::Constant(_) | Schedule::Ramp(..) => None,
            Schedule::Over(_, n) => Some(*n),
            Schedule::Then(_, n, t) => t.length().map(|m| n + m),
            Schedule::Map(_, s) => s.length(),
            Schedule::Arith(_, a, b) => a.length().or(b.length()),
        }
    }

    /// The value if it never changes.
    pub fn constant(&self) -> Option<f64> {
        match self {
            Schedule::Constant(v) => Some(*v),
            Schedule::Ramp(..) | Schedule::Over(..) | Schedule::Then(..) | Schedule::Map(..) | Schedule::Arith(..) => {
                None
            }
        }
    }
}
