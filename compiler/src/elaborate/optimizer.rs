//! `adamw(...)` and `sgd(...)`.

use std::rc::Rc;

use super::value::{Instance, Num, Value};
use super::{Elab, Res};
use crate::model::{Optimizer, Schedule};
use crate::source::Span;
use crate::syntax::ast::Word;

impl Elab<'_> {
    /// The optimiser of a value.
    pub(super) fn optimizer(&mut self, value: &Value, span: Span) -> Res<Optimizer> {
        let Value::Instance(o) = value else {
            return self.error(
                "V0104",
                format!("`optimizer` is `adamw(...)` or `sgd(...)`, found {}", value.kind()),
                span,
                "not an optimiser",
            );
        };
        match &*o.name() {
            "adamw" => Ok(Optimizer::Adamw {
                lr: self.rate(o, "lr")?,
                decay: self.rate(o, "decay")?,
                betas: self.betas(o)?,
                eps: self.constant(o, "eps")?,
            }),
            "sgd" => Ok(Optimizer::Sgd {
                lr: self.rate(o, "lr")?,
                momentum: self.constant(o, "momentum")?,
                decay: self.rate(o, "decay")?,
            }),
            _ => self.error(
                "V0104",
                "`optimizer` is `adamw(...)` or `sgd(...)`, found a block",
                span,
                "not an optimiser",
            ),
        }
    }

    fn setting_of(&mut self, o: &Rc<Instance>, name: &str) -> Res<Value> {
        self.instance_field(o, &Word { text: name.into(), span: o.maker.span })
    }

    fn rate(&mut self, o: &Rc<Instance>, name: &str) -> Res<Schedule> {
        let value = self.setting_of(o, name)?;
        self.schedule(&value, o.maker.span)
    }

    fn constant(&mut self, o: &Rc<Instance>, name: &str) -> Res<f64> {
        match self.setting_of(o, name)? {
            Value::Num(n) => Ok(n.value.real()),
            other => self.error(
                "V0104",
                format!("`{name}` is a number, found {}", other.kind()),
                o.maker.span,
                "in this optimiser",
            ),
        }
    }

    fn betas(&mut self, o: &Rc<Instance>) -> Res<(f64, f64)> {
        let pair = |a: &Num, b: &Num| (a.value.real(), b.value.real());
        match self.setting_of(o, "betas")? {
            Value::None => Ok((0.9, 0.999)),
            Value::Group(items) => match &items[..] {
                [(None, Value::Num(a)), (None, Value::Num(b))] if pair(a, b).0 < 1.0 && pair(a, b).1 < 1.0 => {
                    Ok(pair(a, b))
                }
                _ => self.error(
                    "V0104",
                    "`betas` is a pair of numbers below 1, such as `(0.9, 0.999)`",
                    o.maker.span,
                    "in this optimiser",
                ),
            },
            other => self.error(
                "V0104",
                format!("`betas` is a pair of numbers, found {}", other.kind()),
                o.maker.span,
                "in this optimiser",
            ),
        }
    }
}
