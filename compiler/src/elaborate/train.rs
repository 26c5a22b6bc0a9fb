//! `train { ... }`.

use super::reads::TRAIN_KEYS;
use super::scope::ScopeRef;
use super::units::{UNITS, Unit};
use super::value::{Instance, Num, Number, Value};
use super::{Elab, Res, suggest};
use crate::diag::Diagnostic;
use crate::ir::op::DType;
use crate::model::{DataShare, Train};
use crate::source::Span;
use std::rc::Rc;

impl Elab<'_> {
    /// How the model is trained. `masked`: a mask is drawn, so `group` is required.
    pub(super) fn train(&mut self, model: &Rc<Instance>, body: &ScopeRef, masked: bool) -> Res<Train> {
        let span = model.maker.span;
        let section = match body.get("train").and_then(|t| t.peek()) {
            Some(Value::Section(s)) => s,
            _ => {
                let d = Diagnostic::error(
                    "V0108",
                    format!("`{}` does not say how it is trained", model.name()),
                    span,
                    "no `train`",
                );
                return Err(self.fail(d.help("add `train { data = [\"clips\"], batch = 32, steps = 1_000, optimizer = adamw(lr = 1e-3), precision = \"f32\" }`")));
            }
        };
        let optimizer = self.required(&section, "optimizer", span)?;
        let optimizer = self.optimizer(&optimizer, self.key_span(&section, "optimizer", span))?;
        let clip_grad = match self.key(&section, "clip_grad", span)? {
            None | Some(Value::None) => None,
            Some(v) => Some(self.schedule(&v, self.key_span(&section, "clip_grad", span))?),
        };
        let group = if masked || section.get("group").is_some() {
            Some(self.count(&section, "group", Unit::Clips, span)?)
        } else {
            None
        };
        Ok(Train {
            data: self.data(&section, span)?,
            batch: self.count(&section, "batch", Unit::Clips, span)?,
            group: group.filter(|_| masked),
            steps: self.count(&section, "steps", Unit::Steps, span)?,
            optimizer,
            clip_grad,
            precision: self.precision(&section, span)?,
            seed: match self.key(&section, "seed", span)? {
                None => 0,
                Some(v) => self.whole_number(&v, "train.seed", self.key_span(&section, "seed", span))? as u64,
            },
        })
    }

    /// Where a key of `train` is written, or the model's name.
    fn key_span(&self, section: &ScopeRef, key: &str, model: Span) -> Span {
        section.origin(key).map_or(model, |(expr, _)| expr.span)
    }

    fn key(&mut self, section: &ScopeRef, key: &str, span: Span) -> Res<Option<Value>> {
        match section.get(key) {
            Some(thunk) => self.force_named(&thunk, &format!("train.{key}"), span).map(Some),
            None => Ok(None),
        }
    }

    fn required(&mut self, section: &ScopeRef, key: &str, span: Span) -> Res<Value> {
        if let Some(v) = self.key(section, key, span)? {
            return Ok(v);
        }
        let names = section.names();
        let others: Vec<&str> = names.iter().map(|n| &**n).filter(|n| !TRAIN_KEYS.contains(n)).collect();
        let near = suggest::nearest(key, others).map(|n| format!("`{n}` looks like it"));
        let d = Diagnostic::error("V0108", format!("`train` needs `{key}`"), span, format!("`{key}` is missing"));
        Err(self.fail(d.maybe_help(near)))
    }

    fn count(&mut self, section: &ScopeRef, key: &str, unit: Unit, span: Span) -> Res<usize> {
        let value = self.required(section, key, span)?;
        let span = self.key_span(section, key, span);
        if let Value::Num(Num { unit: found, .. }) = &value
            && found.is_some()
            && *found != unit
        {
            let text = format!("`train.{key}` is measured in {}, not in {}", unit.name(), found.name());
            let d = Diagnostic::error("V0301", text, span, format!("expected {}", unit.name()));
            debug_assert!(UNITS.iter().any(|(_, u)| *u == unit));
            return Err(self.fail(d));
        }
        let n = self.whole_number(&value, &format!("train.{key}"), span)?;
        if n == 0 {
            return self.error("V0104", format!("`train.{key}` must be above zero"), span, "not accepted");
        }
        Ok(n)
    }

    fn data(&mut self, section: &ScopeRef, span: Span) -> Res<Vec<DataShare>> {
        let value = self.required(section, "data", span)?;
        let span = self.key_span(section, "data", span);
        let wrong = |elab: &Elab, found: &Value| {
            let text = format!("`train.data` is a list of names or names with shares, found {}", found.kind());
            let d = Diagnostic::error("V0104", text, span, "not accepted");
            Err(elab.fail(d.help("write `data = [\"k710\", \"ssv2\"]` or `data = (k710: 0.7, ssv2: 0.3)`")))
        };
        let mut out = vec![];
        match &value {
            Value::Text(name) => out.push((name.to_string(), None)),
            Value::List(items) => {
                for item in items.iter() {
                    match item {
                        Value::Text(name) => out.push((name.to_string(), None)),
                        other => return wrong(self, other),
                    }
                }
            }
            Value::Group(items) => {
                for (label, v) in items.iter() {
                    match (label, v) {
                        (Some(name), Value::Num(Num { value: Number::Whole(_) | Number::Real(_), .. })) => {
                            let share = match v {
                                Value::Num(n) => n.value.real(),
                                _ => 0.0,
                            };
                            if share.is_nan() || share <= 0.0 {
                                return self.error(
                                    "V0104",
                                    format!("the share of `{name}` must be above zero"),
                                    span,
                                    "not accepted",
                                );
                            }
                            out.push((name.to_string(), Some(share)));
                        }
                        (_, other) => return wrong(self, other),
                    }
                }
            }
            other => return wrong(self, other),
        }
        if out.is_empty() {
            return self.error("V0104", "`train.data` is empty", span, "not accepted");
        }
        Ok(out)
    }

    fn precision(&mut self, section: &ScopeRef, span: Span) -> Res<DType> {
        let value = self.required(section, "precision", span)?;
        let span = self.key_span(section, "precision", span);
        match value {
            Value::Text(t) if &*t == "f32" => Ok(DType::F32),
            Value::Text(t) if &*t == "bf16" => Ok(DType::Bf16),
            Value::Text(t) => {
                let text = format!("`train.precision` is \"f32\" or \"bf16\", found \"{t}\"");
                self.error("V0104", text, span, "not accepted")
            }
            other => self.error(
                "V0104",
                format!("`train.precision` is \"f32\" or \"bf16\", found {}", other.kind()),
                span,
                "not accepted",
            ),
        }
    }
}
