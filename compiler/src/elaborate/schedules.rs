//! Schedules: `a -> b`, `over`, `then`.

use std::rc::Rc;

use super::units::Unit;
use super::value::{Num, Value};
use super::{Elab, Res};
use crate::diag::Diagnostic;
use crate::model::Schedule;
use crate::source::Span;

impl Elab<'_> {
    /// A schedule of a value that can be one.
    pub(super) fn schedule(&self, value: &Value, span: Span) -> Res<Schedule> {
        match value {
            Value::Schedule(s) => Ok((**s).clone()),
            Value::Num(n) => Ok(Schedule::Constant(n.value.real())),
            Value::Arrow(ends) => match &ends[..] {
                [Value::Num(a), Value::Num(b)] => {
                    if a.unit.is_some() && b.unit.is_some() && a.unit != b.unit {
                        return self.error(
                            "V0301",
                            "a ramp needs the same unit at both ends",
                            span,
                            "the units differ",
                        );
                    }
                    Ok(Schedule::Ramp(a.value.real(), b.value.real()))
                }
                [_, _] => self.error("V0104", "a ramp goes from a number to a number", span, "not two numbers"),
                _ => {
                    let d = Diagnostic::error("V0104", "a ramp has two ends", span, format!("this has {}", ends.len()));
                    Err(self.fail(d.help("chain ramps with `then`: `a -> b over n then b -> c`")))
                }
            },
            other => self.error(
                "V0104",
                format!("expected a number or a schedule, found {}", other.kind()),
                span,
                "not a schedule",
            ),
        }
    }

    /// `s over n`.
    pub(super) fn over(&self, s: &Value, n: &Value, left: Span, right: Span) -> Res<Value> {
        let schedule = self.schedule(s, left)?;
        let steps = self.steps(n, right)?;
        if schedule.length().is_some() {
            let d = Diagnostic::error("V0304", "this schedule has a length already", left, "`over` is inside");
            return Err(self.fail(d.help("use `over` once; chain schedules with `then`")));
        }
        Ok(Value::Schedule(Rc::new(Schedule::Over(Box::new(schedule), steps))))
    }

    /// `s then t`.
    pub(super) fn then(&self, s: &Value, t: &Value, left: Span, right: Span) -> Res<Value> {
        let (first, second) = (self.schedule(s, left)?, self.schedule(t, right)?);
        let Some(length) = first.length() else {
            let text = "`then` needs to know how long the schedule before it lasts";
            let d = Diagnostic::error("V0302", text, left, "no length");
            return Err(self.fail(d.help("add it: `a -> b over 1_000 then ...`")));
        };
        Ok(Value::Schedule(Rc::new(Schedule::Then(Box::new(first), length, Box::new(second)))))
    }

    fn steps(&self, n: &Value, span: Span) -> Res<f64> {
        match n {
            Value::Num(Num { value, unit: Unit::None | Unit::Product | Unit::Steps, .. }) if value.real() >= 0.0 => {
                Ok(value.real())
            }
            Value::Num(n) if n.unit.is_some() => {
                self.error("V0301", format!("`over` counts steps, not {}", n.unit.name()), span, "expected steps")
            }
            other => self.error(
                "V0104",
                format!("`over` needs a number of steps, found {}", other.kind()),
                span,
                "not a number of steps",
            ),
        }
    }
}
