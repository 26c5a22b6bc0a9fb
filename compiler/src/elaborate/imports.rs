//! Files, imports and the standard library.

use std::rc::Rc;

use super::scope::{Scope, ScopeKind, Thunk, ThunkRef};
use super::value::{Closure, Value};
use super::{Elab, Module, suggest};
use crate::diag::{Diagnostic, Fallible};
use crate::source::FileId;
use crate::syntax::ast::{Import, Kind};
use crate::syntax::parse::parse;

/// The standard library: module name and text.
pub const STD: [(&str, &str); 8] = [
    ("nn", include_str!("../../std/nn.vjepa")),
    ("vit", include_str!("../../std/vit.vjepa")),
    ("rope", include_str!("../../std/rope.vjepa")),
    ("image", include_str!("../../std/image.vjepa")),
    ("masks", include_str!("../../std/masks.vjepa")),
    ("losses", include_str!("../../std/losses.vjepa")),
    ("schedules", include_str!("../../std/schedules.vjepa")),
    ("probe", include_str!("../../std/probe.vjepa")),
];

/// Joins a relative import with the path of the file that holds it, and normalises `.` and `..`.
fn join(importer: &str, module: &str) -> String {
    let mut parts: Vec<&str> = importer.split('/').collect();
    parts.pop();
    for part in module.split('/') {
        match part {
            "." => {}
            ".." if parts.last().is_some_and(|p| *p != ".." && !p.is_empty()) => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("{}.vjepa", parts.join("/"))
}

/// The path of the file that an import names: `std/nn.vjepa`, or relative to the importing file.
pub(super) fn module_path(importer: &str, module: &str) -> String {
    match module.strip_prefix("std.") {
        Some(name) => format!("std/{name}.vjepa"),
        None => join(importer, module),
    }
}

impl Elab<'_> {
    /// Parses a file and resolves its imports; a file is loaded once.
    pub(super) fn load(&mut self, file: FileId) -> Fallible<usize> {
        if let Some(done) = self.modules.iter().position(|m| m.file == file) {
            return Ok(done);
        }
        self.loading.push(file);
        let result = self.load_new(file);
        self.loading.pop();
        result
    }

    fn load_new(&mut self, file: FileId) -> Fallible<usize> {
        let ast = parse(self.sources, file)?;
        let mut errors = vec![];
        let mut names: Vec<(Rc<str>, ThunkRef)> = vec![];
        for import in &ast.imports {
            match self.import(file, import) {
                Ok(found) => names.extend(found),
                Err(e) => errors.extend(e),
            }
        }
        let index = self.modules.len();
        let scope = self.scope(ScopeKind::File(index), None);
        let mut models = vec![];
        for def in &ast.defs {
            let name = &def.name;
            if names.iter().any(|(n, _)| *n == name.text) {
                let d =
                    Diagnostic::error("V0110", format!("`{}` is defined twice", name.text), name.span, "second time");
                errors.push(d.help("rename one of them, or import it as another name: `import a as b`"));
            }
            if def.kind == Kind::Model {
                models.push(name.text.clone());
            }
            self.check_reads(def, &mut errors);
            self.allowances(def, &mut errors);
            let closure = Closure { def: def.clone(), file: scope.clone(), changes: vec![], lines: vec![] };
            names.push((name.text.clone(), Thunk::ready(Value::Def(Rc::new(closure)))));
        }
        if errors.is_empty() {
            self.modules.push(Module { file, names, models, scope });
            Ok(index)
        } else {
            Err(errors)
        }
    }

    fn import(&mut self, importer: FileId, import: &Import) -> Fallible<Vec<(Rc<str>, ThunkRef)>> {
        let file = self.import_file(importer, import)?;
        if self.loading.contains(&file) {
            let chain: Vec<&str> = self.loading.iter().map(|f| self.sources.get(*f).path.as_str()).collect();
            let text = format!("`{}` imports itself", self.sources.get(file).path);
            let d = Diagnostic::error("V0106", text, import.module.span, "this closes a circle of imports");
            return Err(vec![d.note(format!("{} -> {}", chain.join(" -> "), self.sources.get(file).path))]);
        }
        let module = self.load(file)?;
        let mut found = vec![];
        let mut errors = vec![];
        for (there, here) in &import.names {
            match self.file_own_name(module, &there.text) {
                Some(t) => found.push((here.text.clone(), t)),
                None => {
                    let all = self.file_names(module);
                    let near = suggest::nearest(&there.text, all.iter().map(|n| &**n));
                    let text = format!("`{}` has no definition called `{}`", import.module.text, there.text);
                    let d = Diagnostic::error("V0102", text, there.span, "not found there");
                    errors.push(d.maybe_help(near.map(|n| format!("did you mean `{n}`?"))));
                }
            }
        }
        if errors.is_empty() { Ok(found) } else { Err(errors) }
    }

    fn import_file(&mut self, importer: FileId, import: &Import) -> Fallible<FileId> {
        let module = &import.module;
        if let Some(name) = module.text.strip_prefix("std.") {
            return self.std_file(name).ok_or_else(|| {
                let near = suggest::nearest(name, STD.iter().map(|(n, _)| *n));
                let text = format!("the standard library has no module `{name}`");
                let all: Vec<String> = STD.iter().map(|(n, _)| format!("std.{n}")).collect();
                let d = Diagnostic::error("V0109", text, module.span, "not found");
                vec![
                    d.maybe_help(near.map(|n| format!("did you mean `std.{n}`?")))
                        .note(format!("it has {}", all.join(", "))),
                ]
            });
        }
        if !module.text.starts_with('.') {
            let text = format!("`{}` is neither a module of the standard library nor a relative path", module.text);
            let d = Diagnostic::error("V0109", text, module.span, "not found");
            let help =
                format!("write `std.{0}` for the standard library, `./{0}` for a file beside this one", module.text);
            return Err(vec![d.help(help)]);
        }
        let path = join(&self.sources.get(importer).path, &module.text);
        if let Some(file) = self.sources.find(&path) {
            return Ok(file);
        }
        match self.loader.load(&path) {
            Ok(text) => Ok(self.sources.add(path, text)),
            Err(why) => {
                let text = format!("cannot read `{path}`: {why}");
                Err(vec![Diagnostic::error("V0109", text, module.span, "imported here")])
            }
        }
    }

    /// The file of a standard module.
    fn std_file(&mut self, name: &str) -> Option<FileId> {
        let (_, text) = STD.iter().find(|(n, _)| *n == name)?;
        let path = format!("std/{name}.vjepa");
        Some(self.sources.find(&path).unwrap_or_else(|| self.sources.add(path, text)))
    }

    /// A scope for `--set` expressions: the names of a file, then all of the standard library.
    pub(super) fn command_line(&mut self, module: usize, file: FileId) -> Fallible<usize> {
        let mut names = self.modules[module].names.clone();
        for (name, _) in STD {
            if let Some(std) = self.std_file(name) {
                let std = self.load(std)?;
                for (n, t) in &self.modules[std].names {
                    if !names.iter().any(|(m, _)| m == n) {
                        names.push((n.clone(), t.clone()));
                    }
                }
            }
        }
        let index = self.modules.len();
        let scope = self.scope(ScopeKind::File(index), None);
        self.modules.push(Module { file, names, models: vec![], scope });
        Ok(index)
    }

    /// A definition or import of a file.
    fn file_own_name(&self, module: usize, name: &str) -> Option<ThunkRef> {
        self.modules[module].names.iter().find(|(n, _)| &**n == name).map(|(_, t)| t.clone())
    }

    /// A definition, import or built-in.
    pub(super) fn file_name(&self, module: usize, name: &str) -> Option<ThunkRef> {
        self.file_own_name(module, name).or_else(|| super::builtins::constant(name).map(Thunk::ready))
    }

    /// Everything that [`Elab::file_name`] finds.
    pub(super) fn file_names(&self, module: usize) -> Vec<Rc<str>> {
        let own = self.modules[module].names.iter().map(|(n, _)| n.clone());
        own.chain(super::builtins::NAMES.iter().map(|n| (*n).into())).collect()
    }

    /// Names of the models of a file.
    pub(super) fn model_names(&self, module: usize) -> Vec<String> {
        self.modules[module].models.iter().map(|m| m.to_string()).collect()
    }

    /// Where the standard library defines a name.
    pub(super) fn std_module_of(&self, name: &str) -> Option<&'static str> {
        STD.iter()
            .find(|(_, text)| {
                ["fn", "block", "mask"].iter().any(|kind| {
                    text.lines().any(|line| {
                        let rest = line.strip_prefix(kind).and_then(|l| l.strip_prefix(' '));
                        rest.and_then(|r| r.strip_prefix(name)).is_some_and(|r| r.starts_with(['(', '[']))
                    })
                })
            })
            .map(|(module, _)| *module)
    }

    /// A scope that is forgotten at the end.
    pub(super) fn scope(&mut self, kind: ScopeKind, parent: Option<&super::ScopeRef>) -> super::ScopeRef {
        let scope = Scope::new(kind, parent);
        self.scopes.push(Rc::downgrade(&scope));
        scope
    }
}
