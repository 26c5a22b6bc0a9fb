//! The whole of one elaboration: evaluates what a model must have, declares the weights that are used, and keeps only
//! what is reached.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::prune::{Roots, prune, weights_reached};
use super::scope::{ScopeKind, ScopeRef};
use super::value::{Change, ChangeTo, Closure, Instance, Role, Value};
use super::{Elab, Override, Res, Stop, suggest};
use crate::diag::{Diagnostic, Fallible};
use crate::ir::graph::Outer;
use crate::model::{Average, Backbone, Model, NodeId, NodeOp, Tap, WeightId, WeightKind};
use crate::source::{FileId, Span};
use crate::syntax::ast::{DefValue, Kind, StmtKind};
use crate::syntax::parse::parse_setting;

impl Elab<'_> {
    /// Elaborates a model of a file.
    pub(super) fn run(&mut self, file: FileId, name: Option<&str>, overrides: &[Override]) -> Fallible<Model> {
        let module = self.load(file)?;
        let name = self.chosen(module, name, file)?;
        let closure = self.model_closure(module, &name)?;
        let closure = self.overridden(module, closure, overrides)?;
        let result = self.model_of(&closure).map_err(report).and_then(|model| self.model(&model, &name));
        let mut unread = self.take_unread();
        match result {
            Ok(model) if unread.is_empty() => Ok(model),
            Ok(_) => Err(unread),
            Err(mut errors) => {
                errors.append(&mut unread);
                Err(errors)
            }
        }
    }

    /// The model to be elaborated: the named one, or the only one.
    fn chosen(&self, module: usize, name: Option<&str>, file: FileId) -> Fallible<String> {
        let all = self.model_names(module);
        let start = Span { file, start: 0, end: 0 };
        match (name, &all[..]) {
            (Some(name), _) => Ok(name.to_string()),
            (None, [only]) => Ok(only.clone()),
            (None, []) => Err(vec![Diagnostic::error("V0102", "this file defines no model", start, "no `model` here")]),
            (None, _) => {
                let d = Diagnostic::error("V0102", "this file defines several models", start, "which one?");
                Err(vec![
                    d.help(format!("add its name after the file, as in `FILE:{}`", all[all.len() - 1]))
                        .note(format!("it defines {}", all.join(", "))),
                ])
            }
        }
    }

    fn model_closure(&mut self, module: usize, name: &str) -> Fallible<Rc<Closure>> {
        let found = self.file_name(module, name).and_then(|t| t.peek());
        match found {
            Some(Value::Def(c)) if c.def.kind == Kind::Model => Ok(c),
            _ => {
                let all = self.model_names(module);
                let near = suggest::nearest(name, all.iter().map(|n| &**n));
                let file = self.modules[module].file;
                let text = format!("`{}` defines no model called `{name}`", self.sources.get(file).path);
                let d = Diagnostic::error("V0102", text, Span { file, start: 0, end: 0 }, "not in this file");
                Err(vec![
                    d.maybe_help(near.map(|n| format!("did you mean `{n}`?")))
                        .note(format!("it defines {}", all.join(", "))),
                ])
            }
        }
    }

    /// The closure with `--set` lines after all others.
    fn overridden(&mut self, module: usize, closure: Rc<Closure>, overrides: &[Override]) -> Fallible<Rc<Closure>> {
        if overrides.is_empty() {
            return Ok(closure);
        }
        self.groups += 1;
        let group = self.groups;
        let mut changes = closure.changes.clone();
        let mut errors = vec![];
        for o in overrides {
            let file = self.sources.add("command line", format!("{}={}", o.path, o.value));
            let stmt = match parse_setting(self.sources, file) {
                Ok(stmt) => stmt,
                Err(e) => {
                    errors.extend(e);
                    continue;
                }
            };
            let names = self.command_line(module, file)?;
            let StmtKind::Bind { targets, key, value, .. } = &stmt.kind else { continue };
            let Some(target) = targets.first() else { continue };
            changes.push(Change {
                path: target.parts.clone(),
                what: ChangeTo::Value(value.clone()),
                key: key.clone(),
                scope: self.modules[names].scope.clone(),
                span: stmt.span,
                group,
                section: false,
            });
        }
        if errors.is_empty() { Ok(Rc::new(Closure { changes, ..(*closure).clone() })) } else { Err(errors) }
    }

    fn model(&mut self, model: &Rc<Instance>, name: &str) -> Fallible<Model> {
        let body = match &*model.body.borrow() {
            Some(b) => b.clone(),
            None => return Err(vec![]),
        };
        let mut errors = vec![];
        collect(&mut errors, self.requirements(model, &body));
        let loss = collect(&mut errors, self.loss(model, &body));
        let metrics = collect(&mut errors, self.metrics(&body));
        // Backbone and settings often fail for the same reason as the loss; a second message would only repeat it.
        let backbone = if errors.is_empty() { collect(&mut errors, self.backbone(&body)) } else { None };
        let train = collect(&mut errors, self.train(model, &body, !self.masks.is_empty()));
        let taps = if errors.is_empty() { self.all_taps(&body) } else { vec![] };
        let mut roots: Vec<NodeId> = loss.iter().chain(taps.iter().map(|t| &t.node)).copied().collect();
        roots.extend(metrics.iter().flatten().map(|(_, n)| *n));
        roots.extend(backbone.iter().flatten().map(|b| b.output));
        let weights =
            if errors.is_empty() { collect(&mut errors, self.used_weights(model, &body, &roots)) } else { None };
        let (Some(loss), Some(metrics), Some(backbone), Some(train), Some(weights)) =
            (loss, metrics, backbone, train, weights)
        else {
            let mut seen: Vec<Diagnostic> = vec![];
            for e in errors {
                // The moving average of a block repeats the block's mistakes.
                if !seen.iter().any(|s| s.code == e.code && s.message == e.message) {
                    seen.push(e);
                }
            }
            return Err(seen);
        };
        let (weights, networks, averages) = self.classified(weights, model).map_err(report)?;
        let roots = Roots { loss, metrics, backbone, taps, weights, networks, averages, train };
        Ok(prune(self, name, roots))
    }

    fn loss(&mut self, model: &Rc<Instance>, body: &ScopeRef) -> Res<NodeId> {
        let Some(thunk) = body.get("loss") else {
            let d = Diagnostic::error(
                "V0206",
                format!("model `{}` has no `loss`", model.name()),
                model.maker.span,
                "nothing to minimise",
            );
            return Err(self.fail(d.help("add `loss = ...`, one number")));
        };
        let span = self.span_of(model, "loss");
        let value = self.force_named(&thunk, "loss", span)?;
        self.one_number(&value, "loss", span)
    }

    /// What the model itself requires.
    fn requirements(&mut self, model: &Rc<Instance>, body: &ScopeRef) -> Res<()> {
        let super::value::What::Def(closure) = &model.maker.what else { return Ok(()) };
        let (closure, def) = (closure.clone(), closure.def.clone());
        let DefValue::Body(stmts) = &def.value else { return Ok(()) };
        for stmt in &stmts.stmts {
            if let StmtKind::Require(cond, message) = &stmt.kind {
                self.require(cond, message.as_ref(), body, model)?;
            }
        }
        for change in &closure.changes {
            if let ChangeTo::Statement(stmt) = &change.what
                && let StmtKind::Require(cond, message) = &stmt.kind
            {
                let scope = self.scope(ScopeKind::Dual(change.scope.clone()), Some(body));
                self.require(cond, message.as_ref(), &scope, model)?;
            }
        }
        Ok(())
    }

    /// Where a field of a model is written, in the last `with` that sets it or in the file.
    fn span_of(&self, model: &Rc<Instance>, field: &str) -> Span {
        let super::value::What::Def(closure) = &model.maker.what else { return model.maker.span };
        let changed =
            closure.changes.iter().rev().find(|c| c.path.len() == 1 && &*c.path[0].text == field).map(|c| c.span);
        let DefValue::Body(body) = &closure.def.value else { return model.maker.span };
        let written = body.stmts.iter().find_map(|s| match &s.kind {
            StmtKind::Bind { targets, value, .. } if targets.iter().any(|t| &*t.parts[0].text == field) => {
                Some(value.span)
            }
            _ => None,
        });
        changed.or(written).unwrap_or(model.maker.span)
    }

    /// A loss or a metric: no axes, one value a clip or one for the step.
    fn one_number(&mut self, value: &Value, what: &str, span: Span) -> Res<NodeId> {
        let (found, label) = match value {
            Value::Num(_) | Value::Schedule(_) | Value::Arrow(_) => {
                let t = self.tensor(value, span)?;
                return Ok(t.node);
            }
            Value::Tensor(t) => match self.outer(t) {
                Outer::Segments(_) => ("one value for each mask".to_string(), self.show(t)),
                Outer::One | Outer::Clips if t.axes.is_empty() => return Ok(t.node),
                Outer::One | Outer::Clips => ("a tensor".to_string(), self.show(t)),
            },
            Value::Packed(_, _, origin) => {
                let n = origin.masks.len();
                (format!("a list of {n} numbers"), format!("one number for each of the {n} masks"))
            }
            Value::List(items) => (format!("a list of {} values", items.len()), "a list".to_string()),
            other => (other.kind().to_string(), "not a number".to_string()),
        };
        let d = Diagnostic::error("V0206", format!("`{what}` must be one number, but it is {found}"), span, label);
        Err(self.fail(d.help(format!("average it: `{what} = mean(...)`"))))
    }

    fn metrics(&mut self, body: &ScopeRef) -> Res<Vec<(String, NodeId)>> {
        let mut out = vec![];
        for name in body.names() {
            let Some(short) = name.strip_prefix("metric ") else { continue };
            let Some(thunk) = body.get(&name) else { continue };
            let value = thunk.force(self)?;
            let span = match &value {
                Value::Tensor(t) => self.node(t.node).span,
                _ => Span { file: FileId(0), start: 0, end: 0 },
            };
            out.push((short.to_string(), self.one_number(&value, short, span)?));
        }
        Ok(out)
    }

    /// Calls the backbone with the model's only video or image source.
    fn backbone(&mut self, body: &ScopeRef) -> Res<Option<Backbone>> {
        let Some(thunk) = body.get("backbone") else { return Ok(None) };
        let zero = Span { file: FileId(0), start: 0, end: 0 };
        let value = self.force_named(&thunk, "backbone", zero)?;
        let Value::Instance(block) = &value else {
            return self.error("V0104", format!("`backbone` is a block, found {}", value.kind()), zero, "not a block");
        };
        let span = block.maker.span;
        let mut source = None;
        for name in body.names() {
            let Some(thunk) = body.get(&name) else { continue };
            let Some(Value::Source(s)) =
                thunk.peek().or_else(|| if self.is_source_field(body, &name) { thunk.force(self).ok() } else { None })
            else {
                continue;
            };
            if &*s.name() == "label" {
                continue;
            }
            if source.is_some() {
                let d = Diagnostic::error(
                    "V0104",
                    "`backbone` needs a model with one video or image source",
                    span,
                    "this model has several",
                );
                return Err(self.fail(d));
            }
            source = Some(s);
        }
        let Some(source) = source else {
            return self.error(
                "V0104",
                "`backbone` needs a model with one video or image source",
                span,
                "this model has none",
            );
        };
        let taps = self.taps.len();
        let input = super::forward::Input { name: None, value: Value::Source(source), span };
        let result = self.forward(block, &[input], &vec![], body, span)?;
        self.taps.truncate(taps);
        let t = self.tensor(&result, span)?;
        let field = block.home.borrow().as_ref().map_or_else(String::new, |h| h.place.to_string());
        Ok(Some(Backbone { field, output: t.node }))
    }

    /// True if the field is written as a call of a source, which is cheap to make.
    fn is_source_field(&self, body: &ScopeRef, name: &str) -> bool {
        let ScopeKind::Body(model) = &body.kind else { return false };
        let super::value::What::Def(closure) = &model.maker.what else { return false };
        let DefValue::Body(stmts) = &closure.def.value else { return false };
        stmts.stmts.iter().any(|s| match &s.kind {
            StmtKind::Bind { targets, value, .. } if targets.len() == 1 && &*targets[0].parts[0].text == name => {
                let mut found = false;
                super::reads::visit(value, &mut |e| {
                    if let crate::syntax::ast::ExprKind::Call(f, _) = &e.kind
                        && let crate::syntax::ast::ExprKind::Name(n) = &f.kind
                    {
                        found |= matches!(&**n, "video" | "image");
                    }
                });
                found
            }
            _ => false,
        })
    }

    /// Stored tensors of all parts that are used, in the order of the model's fields; then those of parts that a `with`
    /// replaced by something that still uses them.
    fn used_weights(&mut self, model: &Rc<Instance>, body: &ScopeRef, roots: &[NodeId]) -> Res<Vec<WeightId>> {
        let number = model.home.borrow().as_ref().map_or(0, |h| h.model);
        // What a used moving average follows is used too.
        let mut more = true;
        while more {
            more = false;
            for (_, instance) in self.used.clone() {
                let role = instance.home.borrow().as_ref().map(|h| (h.model, h.role));
                if let Some((m, Role::Average(i))) = role
                    && m == number
                {
                    let source = self.followers[i].source.clone();
                    let before = self.used.len();
                    self.mark_used(&source);
                    more |= self.used.len() > before;
                }
            }
        }
        let mut out = vec![];
        for name in body.names() {
            let Some(value) = body.get(&name).and_then(|t| t.peek()) else { continue };
            match &value {
                Value::Tensor(_) | Value::Stacked(..) => self.weights_of_value(&value, &mut out),
                _ => {
                    if self.used.contains_key(&(number, name.clone())) {
                        self.declare_all(&value, &name, &mut out)?;
                    }
                }
            }
        }
        for id in weights_reached(self, roots) {
            if !out.contains(&id) {
                out.push(id);
            }
        }
        let mut keys: BTreeMap<String, Span> = BTreeMap::new();
        for id in &out {
            let weight = &self.stored[id.0 as usize].weight;
            if let Some(first) = keys.insert(weight.key.clone(), weight.span) {
                let d = Diagnostic::error(
                    "V0110",
                    format!("two weights would be stored as `{}`", weight.key),
                    weight.span,
                    "second one",
                );
                return Err(
                    self.fail(d.label(first, "first one").help("give one of them another key: `name \"key\" = ...`"))
                );
            }
        }
        Ok(out)
    }

    fn weights_of_value(&self, value: &Value, out: &mut Vec<WeightId>) {
        let mut add = |node: NodeId| {
            if let NodeOp::Weight(id) = self.node(node).op
                && !out.contains(&id)
            {
                out.push(id);
            }
        };
        match value {
            Value::Tensor(t) => add(t.node),
            Value::Stacked(_, items) => items.iter().for_each(|t| add(t.node)),
            _ => {}
        }
    }

    /// Declares every weight under a value that lives at `place`.
    fn declare_all(&mut self, value: &Value, place: &str, out: &mut Vec<WeightId>) -> Res<()> {
        match value {
            Value::Instance(i) if &*i.place() == place => {
                self.descend(i.maker.span)?;
                let result = self.declare_instance(i, out);
                self.depth -= 1;
                result
            }
            Value::List(items) => {
                for (n, item) in items.iter().enumerate() {
                    self.declare_all(item, &format!("{place}.{n}"), out)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn declare_instance(&mut self, instance: &Rc<Instance>, out: &mut Vec<WeightId>) -> Res<()> {
        if instance.kind() != Some(Kind::Block) {
            return Ok(());
        }
        let span = instance.maker.span;
        let body = self.open(instance, span)?;
        let place = instance.place();
        let outside = std::mem::replace(&mut self.at.place, place.clone());
        let super::value::What::Def(closure) = &instance.maker.what else { return Ok(()) };
        let def = closure.def.clone();
        let DefValue::Body(stmts) = &def.value else { return Ok(()) };
        for stmt in &stmts.stmts {
            let names: Vec<Rc<str>> = match &stmt.kind {
                StmtKind::Learn(learn) => vec![learn.name.text.clone()],
                StmtKind::Bind { targets, .. } => targets.iter().map(|t| t.parts[0].text.clone()).collect(),
                _ => vec![],
            };
            for name in names {
                if name.contains(' ') {
                    continue; // replaced, and kept for the line that reads it
                }
                let Some(thunk) = body.get(&name) else { continue };
                let value = self.force_named(&thunk, &name, stmt.span)?;
                match &stmt.kind {
                    StmtKind::Learn(_) => self.weights_of_value(&value, out),
                    _ => self.declare_all(&value, &super::instances::join(&place, &name), out)?,
                }
            }
        }
        self.at.place = outside;
        Ok(())
    }

    /// What each weight is to training.
    fn classified(
        &mut self,
        ids: Vec<WeightId>,
        model: &Rc<Instance>,
    ) -> Res<(Vec<WeightId>, Vec<String>, Vec<Average>)> {
        let number = model.home.borrow().as_ref().map_or(0, |h| h.model);
        let by_key: HashMap<String, WeightId> =
            ids.iter().map(|i| (self.stored[i.0 as usize].weight.key.clone(), *i)).collect();
        let mut networks: Vec<String> = vec![];
        let mut averages: Vec<Average> = vec![];
        let mut order: Vec<usize> = vec![];
        for id in &ids {
            let stored = &self.stored[id.0 as usize];
            let kind = if stored.weight.kind == WeightKind::Buffer {
                WeightKind::Buffer
            } else {
                match stored.role {
                    Role::Frozen => WeightKind::Frozen,
                    Role::Trained => {
                        let root = stored.root.to_string();
                        let index = networks.iter().position(|n| *n == root).unwrap_or_else(|| {
                            networks.push(root);
                            networks.len() - 1
                        });
                        WeightKind::Trained(index)
                    }
                    Role::Average(i) => {
                        let follower = &self.followers[i];
                        let key = &stored.weight.key;
                        let copies = follower.copies.iter().filter_map(|c| c.home.borrow().clone());
                        let own = copies
                            .filter(|h| h.model == number)
                            .find_map(|h| key.strip_prefix(&*h.key).map(str::to_string));
                        let source = follower.source.home.borrow().clone();
                        let follows =
                            own.zip(source).and_then(|(rest, s)| by_key.get(&format!("{}{rest}", s.key)).copied());
                        let fits = follows.filter(|f| self.stored[f.0 as usize].weight.stored == stored.weight.stored);
                        let Some(follows) = fits else {
                            let text = format!(
                                "`{key}` is a moving average, but there is no weight of that shape for it to follow"
                            );
                            let d =
                                Diagnostic::error("V0104", text, follower.source.maker.span, "this block is followed");
                            return Err(self.fail(d.help("`ema` follows a block that is a field of the same model")));
                        };
                        let index = order.iter().position(|o| *o == i).unwrap_or_else(|| {
                            order.push(i);
                            averages.push(Average { name: follower.name.clone(), momentum: follower.momentum.clone() });
                            order.len() - 1
                        });
                        WeightKind::Average(follows, index)
                    }
                }
            };
            self.stored[id.0 as usize].weight.kind = kind;
        }
        Ok((ids, networks, averages))
    }

    /// Calls in the order in which they were made, then the model's equations.
    fn all_taps(&mut self, body: &ScopeRef) -> Vec<Tap> {
        let mut taps = std::mem::take(&mut self.taps);
        for name in body.names() {
            if &*name == "loss" || name.starts_with("metric ") {
                continue;
            }
            let Some(value) = body.get(&name).and_then(|t| t.peek()) else { continue };
            if let Some(node) = self.is_tap(&value) {
                taps.push(Tap { name: name.to_string(), call: false, node });
            }
        }
        taps
    }
}

/// A stop that nobody caught, as diagnostics.
fn report(stop: Stop) -> Vec<Diagnostic> {
    match stop {
        Stop::Error(d) => vec![*d],
        Stop::Cycle => {
            let d = Diagnostic {
                code: "V0106",
                severity: crate::diag::Severity::Error,
                message: "a field is defined in terms of itself".into(),
                labels: vec![],
                help: vec![],
                notes: vec![],
            };
            vec![d]
        }
        Stop::NeedsNumber(span) => {
            vec![Diagnostic::error(
                "V0104",
                "a position in this list must be a whole number",
                span,
                "known only at run time",
            )]
        }
    }
}

/// The value, or its error put with the others.
fn collect<T>(errors: &mut Vec<Diagnostic>, result: Res<T>) -> Option<T> {
    match result {
        Ok(v) => Some(v),
        Err(stop) => {
            errors.extend(report(stop));
            None
        }
    }
}
