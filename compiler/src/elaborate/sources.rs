//! Sources: videos, images and labels.

use std::rc::Rc;

use super::emit::Leaf;
use super::units::Unit;
use super::value::{Instance, Num, Tensor, Value};
use super::{Elab, Res};
use crate::ir::graph::{InputSpec, Outer, Pace, VideoSpec};
use crate::ir::op::DType;
use crate::model::{self, NodeOp};
use crate::source::Span;
use crate::syntax::ast::Word;

impl Elab<'_> {
    /// The tensor of a source; asking for it makes the source an input of the program.
    pub(super) fn source_tensor(&mut self, source: &Rc<Instance>, span: Span) -> Res<Tensor> {
        if let Some(t) = &*source.tensor.borrow() {
            return Ok(t.clone());
        }
        let name = source.place().to_string();
        if name.is_empty() {
            return self.error("V0104", "a source must be a field of the model", source.maker.span, "give it a name");
        }
        let kind = source.name();
        let (spec, axes) = if &*kind == "label" {
            (InputSpec::Label { classes: self.source_number(source, "classes")? }, vec![])
        } else {
            let spec = self.video_spec(source, &name, &kind)?;
            let mut axes = vec![];
            if &*kind == "video" {
                axes.push(match self.source_setting(source, "frames")? {
                    Value::Num(Num { axis: Some(a), .. }) => a,
                    _ => self.fixed_axis("frames", spec.frames),
                });
            }
            axes.push(self.fixed_axis("height", spec.size));
            axes.push(self.fixed_axis("width", spec.size));
            axes.push(self.fixed_axis("rgb", 3));
            (if &*kind == "video" { InputSpec::Video(spec) } else { InputSpec::Image(spec) }, axes)
        };
        let index = self.inputs.len();
        let is_label = matches!(spec, InputSpec::Label { .. });
        self.inputs.push((source.clone(), model::Source { name, spec }));
        let span = if self.in_std(span) { source.maker.span } else { span };
        let node = self.leaf(Leaf::Source(index), NodeOp::Source(index), Outer::Clips, axes.clone(), span);
        if is_label {
            self.nodes[node.0 as usize].dtype = DType::I32;
            self.whole[node.0 as usize] = true;
        }
        let t = Tensor { node, axes, loops: vec![], of: None, made: None };
        *source.tensor.borrow_mut() = Some(t.clone());
        Ok(t)
    }

    fn video_spec(&mut self, source: &Rc<Instance>, name: &str, kind: &str) -> Res<VideoSpec> {
        let video = kind == "video";
        Ok(VideoSpec {
            name: name.to_string(),
            frames: if video { self.source_number(source, "frames")? } else { 1 },
            pace: if video { self.pace(source)? } else { Pace::Every(1) },
            size: self.source_number(source, "size")?,
            crop: self.source_interval(source, "crop")?,
            aspect: self.source_interval(source, "aspect")?,
            flip: match self.source_setting(source, "flip")? {
                Value::Bool(b) => b,
                other => {
                    let text = format!("`{name}.flip` is true or false, found {}", other.kind());
                    return self.error("V0104", text, source.maker.span, "in this source");
                }
            },
        })
    }

    /// `rate`, if it is given, stands for `every`.
    fn pace(&mut self, source: &Rc<Instance>) -> Res<Pace> {
        let path = format!("{}.rate", source.place());
        let rate = match self.source_setting(source, "rate")? {
            Value::None => return Ok(Pace::Every(self.source_number(source, "every")?)),
            Value::Num(rate) => rate,
            other => {
                let text = format!("`{path}` is a number of frames a second, found {}", other.kind());
                return self.error("V0104", text, source.maker.span, "in this source");
            }
        };
        if rate.unit.is_some() && rate.unit != Unit::Fps {
            let text = format!("`{path}` is measured in fps, not in {}", rate.unit.name());
            return self.error("V0301", text, source.maker.span, "in this source");
        }
        match rate.value.real() {
            fps if fps > 0.0 && fps.is_finite() => Ok(Pace::Rate(fps)),
            _ => self.error("V0104", format!("`{path}` must be above zero"), source.maker.span, "in this source"),
        }
    }

    fn source_setting(&mut self, source: &Rc<Instance>, name: &str) -> Res<Value> {
        self.instance_field(source, &Word { text: name.into(), span: source.maker.span })
    }

    fn source_number(&mut self, source: &Rc<Instance>, name: &str) -> Res<usize> {
        let value = self.source_setting(source, name)?;
        let n = self.whole_number(&value, &format!("{}.{name}", source.place()), source.maker.span)?;
        if n == 0 {
            let text = format!("`{}.{name}` must be above zero", source.place());
            return self.error("V0104", text, source.maker.span, "in this source");
        }
        Ok(n)
    }

    fn source_interval(&mut self, source: &Rc<Instance>, name: &str) -> Res<Option<(f64, f64)>> {
        let value = self.source_setting(source, name)?;
        let path = format!("{}.{name}", source.place());
        match &value {
            Value::None => Ok(None),
            Value::Num(n) => Ok(Some((n.value.real(), n.value.real()))),
            Value::Interval(i) => match (&i.lo, &i.hi) {
                (Value::Num(lo), Value::Num(hi)) if lo.value.real() > 0.0 && lo.value.real() <= hi.value.real() => {
                    Ok(Some((lo.value.real(), hi.value.real())))
                }
                _ => self.error(
                    "V0104",
                    format!("`{path}` must be an interval of numbers above zero"),
                    source.maker.span,
                    "in this source",
                ),
            },
            other => self.error(
                "V0104",
                format!("`{path}` is an interval such as `30%..100%`, found {}", other.kind()),
                source.maker.span,
                "in this source",
            ),
        }
    }
}
