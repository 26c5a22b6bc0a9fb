//! Which path each data name of a model stands for: the site file `vjepa.yaml` and `--data`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};

/// Name of the site file.
pub const SITE_FILE: &str = "vjepa.yaml";

/// A site file: `data: {k710: lists/k710.csv, ssv2: /data/ssv2}`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Paths by name; relative ones count from the file's folder.
    #[serde(default)]
    pub data: BTreeMap<String, PathBuf>,
}

impl Site {
    /// Reads a site file.
    pub fn read(path: &Path) -> Result<Site> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read the site file", path, e))?;
        let mut site: Site = serde_yaml::from_str(&text).map_err(|e| {
            Error::failed(format!(
                "the site file `{}` is not as expected: {e}; write `data: {{NAME: PATH}}`",
                path.display()
            ))
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for place in site.data.values_mut() {
            *place = folder.join(&*place);
        }
        Ok(site)
    }

    /// Reads `vjepa.yaml` of this folder, or nothing if there is none.
    pub fn of_folder(folder: &Path) -> Result<Site> {
        let path = folder.join(SITE_FILE);
        if path.exists() { Site::read(&path) } else { Ok(Site::default()) }
    }
}

/// The path of each of a model's data names. `given` are the values of `--data`: `NAME=PATH`, or a bare `PATH` where
/// there is only one name; they win over the site file. A model without names takes a bare path as `data`.
pub fn bind(names: &[String], site: &Site, given: &[String]) -> Result<Vec<(String, PathBuf)>> {
    let only = match names {
        [] => Some("data"),
        [one] => Some(one.as_str()),
        _ => None,
    };
    let known = |name: &str| names.iter().any(|n| n == name) || only == Some(name);
    let list = || names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    let mut bound: BTreeMap<&str, PathBuf> = BTreeMap::new();
    for argument in given {
        let (name, path) = match argument.split_once('=') {
            Some((name, path)) if known(name) => (name, path),
            // A path may hold `=` itself.
            Some((name, _)) if !Path::new(argument).exists() => {
                let has = if names.is_empty() { "no data names".into() } else { list() };
                return Err(Error::usage(format!("`--data {argument}`: the model has no data `{name}`; it has {has}")));
            }
            _ => match only {
                Some(name) => (name, argument.as_str()),
                None => {
                    return Err(Error::usage(format!(
                        "`--data {argument}` does not say which data it is; the model has {}; write `--data {}={argument}`",
                        list(),
                        names[0]
                    )));
                }
            },
        };
        if path.is_empty() {
            return Err(Error::usage(format!("`--data {argument}` has no path; write `--data {name}=PATH`")));
        }
        if bound.insert(name, PathBuf::from(path)).is_some() {
            return Err(Error::usage(format!("`--data` gives `{name}` twice; give it once")));
        }
    }
    let wanted: Vec<&str> =
        if names.is_empty() { only.into_iter().collect() } else { names.iter().map(|n| n.as_str()).collect() };
    let find = |name: &str| bound.get(name).or_else(|| site.data.get(name)).cloned();
    wanted
        .into_iter()
        .map(|name| match find(name) {
            Some(path) => Ok((name.to_string(), path)),
            None => Err(Error::usage(format!(
                "no path for the data `{name}`; write `--data {name}=PATH`, or `data: {{{name}: PATH}}` in `{SITE_FILE}`"
            ))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| w.to_string()).collect()
    }

    fn bound(names: &[&str], given: &[&str]) -> std::result::Result<Vec<(String, String)>, String> {
        let site = Site { data: [("k710".to_string(), PathBuf::from("/lists/k710.csv"))].into() };
        match bind(&strings(names), &site, &strings(given)) {
            Ok(b) => Ok(b.into_iter().map(|(n, p)| (n, p.display().to_string())).collect()),
            Err(e) => Err(e.to_string()),
        }
    }

    fn pairs(p: &[(&str, &str)]) -> std::result::Result<Vec<(String, String)>, String> {
        Ok(p.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect())
    }

    #[test]
    fn names_come_from_the_command_line_then_the_site_file() {
        assert_eq!(bound(&["k710"], &[]), pairs(&[("k710", "/lists/k710.csv")]));
        assert_eq!(bound(&["k710"], &["x"]), pairs(&[("k710", "x")]));
        assert_eq!(bound(&["ssv2", "k710"], &["ssv2=a=b"]), pairs(&[("ssv2", "a=b"), ("k710", "/lists/k710.csv")]));
        assert_eq!(bound(&[], &["x"]), pairs(&[("data", "x")]));
    }

    #[test]
    fn what_does_not_bind_says_how() {
        let error = |names, given| bound(names, given).unwrap_err();
        assert_eq!(
            error(&["a", "b"], &["clips"]),
            "`--data clips` does not say which data it is; the model has `a`, `b`; write `--data a=clips`"
        );
        assert_eq!(error(&["a"], &["c=x"]), "`--data c=x`: the model has no data `c`; it has `a`");
        assert_eq!(
            error(&["a"], &[]),
            "no path for the data `a`; write `--data a=PATH`, or `data: {a: PATH}` in `vjepa.yaml`"
        );
        assert_eq!(error(&["a"], &["x", "y"]), "`--data` gives `a` twice; give it once");
        assert_eq!(error(&["a"], &["a="]), "`--data a=` has no path; write `--data a=PATH`");
    }

    #[test]
    fn paths_of_a_site_file_count_from_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Site::of_folder(folder.path()).unwrap(), Site::default());
        std::fs::write(folder.path().join(SITE_FILE), "data: {a: lists/a.csv, b: /b}\n").unwrap();
        let site = Site::of_folder(folder.path()).unwrap();
        assert_eq!(site.data["a"], folder.path().join("lists/a.csv"));
        assert_eq!(site.data["b"], Path::new("/b"));
        std::fs::write(folder.path().join(SITE_FILE), "dota: {a: b}\n").unwrap();
        let error = Site::of_folder(folder.path()).unwrap_err().to_string();
        assert!(error.contains("unknown field `dota`") && error.contains("write `data: {NAME: PATH}`"), "{error}");
    }
}
