//! Which files there are: a list, or a folder.
//!
//! | path | items |
//! |---|---|
//! | text file, `PATH LABEL` a line | one a line; the label may be missing; `#` starts a comment |
//! | text file whose first line is a header with `path` (and `label`) | one a line, commas between, quotes allowed |
//! | folder of videos | every video in it and below, sorted by path |
//! | folder of class folders (no video directly in it) | the same; the label is the place of the first folder in sorted order |
//! | for a `video` source: folder of pictures | one item, its frames in order of the numbers in their names |
//! | for an `image` source: folder of pictures | one item a picture (and a video) |
//!
//! Paths in a list count from the list's folder, or else from the working folder. Every file is looked at once, so a
//! list with missing files is an error before the first step.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Endings of videos, lower case.
const VIDEOS: [&str; 21] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "mts", "m2ts", "wmv", "asf", "flv", "ogv", "ogg",
    "3gp", "vob", "mxf", "gif", "y4m",
];

/// Endings of pictures, lower case.
const PICTURES: [&str; 8] = ["jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "ppm"];

/// Folders below folders, at most: deeper ones are taken for a loop of links.
const MAX_DEPTH: usize = 16;

/// Places that a message about missing files names.
const NAMED: usize = 3;

/// What the model's source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `video(...)`.
    Video,
    /// `image(...)`.
    Image,
}

/// How an item is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// A video file.
    Video,
    /// A folder of pictures.
    Frames,
    /// A picture.
    Picture,
}

/// A file (or frame folder) and its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it is.
    pub path: PathBuf,
    /// Its class, from 0.
    pub label: Option<u32>,
    /// How it is read.
    pub media: Media,
}

/// The items of a list, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The data name it stands for.
    pub name: String,
    /// At least one.
    pub items: Vec<Item>,
    /// Names of the classes, for a folder of class folders; else empty.
    pub classes: Vec<String>,
}

impl Index {
    /// Reads a list or a folder.
    pub fn read(name: &str, path: &Path, source: Source) -> Result<Index> {
        let data = fs::metadata(path).map_err(|e| {
            Error::failed(format!(
                "cannot read the data `{name}` at `{}`: {e}; give a list or a folder of videos",
                path.display()
            ))
        })?;
        let (items, classes) = if data.is_dir() {
            folder(path, source)?
        } else if let Some(media @ (Media::Video | Media::Picture)) = media_of(path) {
            (vec![Item { path: path.to_path_buf(), label: None, media }], vec![])
        } else {
            (list(path)?, vec![])
        };
        Ok(Index { name: name.to_string(), items, classes })
    }
}

/// The pictures of a frame folder, in order of the numbers in their names.
pub fn frame_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !is_hidden(&path) && media_of(&path) == Some(Media::Picture) {
            files.push(path);
        }
    }
    files.sort_by_cached_key(|p| natural(p));
    Ok(files)
}

/// By ending.
fn media_of(path: &Path) -> Option<Media> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    if VIDEOS.contains(&ending.as_str()) {
        return Some(Media::Video);
    }
    PICTURES.contains(&ending.as_str()).then_some(Media::Picture)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'))
}

/// A key that puts `f2` before `f10`: runs of digits count as numbers, padded to compare as text.
fn natural(path: &Path) -> Vec<(String, String)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut parts = Vec::new();
    let mut rest = name.as_str();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(digits);
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, after) = after.split_at(end);
        let number = number.trim_start_matches('0');
        // Length first, then digits: numbers of any length compare right.
        parts.push((word.to_string(), format!("{:06}{number}", number.len())));
        rest = after;
    }
    // Names that differ only in leading zeros keep a fixed order.
    parts.push((name, String::new()));
    parts
}

// ---- folders ----

fn folder(root: &Path, source: Source) -> Result<(Vec<Item>, Vec<String>)> {
    let mut items = Vec::new();
    walk(root, source, 0, &mut items)?;
    if items.is_empty() {
        return Err(Error::failed(format!(
            "no video in the folder `{}`; expected files such as `a.mp4`, class folders of them, or folders of \
             pictures; a list of paths works too",
            root.display()
        )));
    }
    // A frame folder stands for a file: it does not make its parent a class.
    let first = |item: &Item| -> Option<String> {
        let below = item.path.strip_prefix(root).ok()?;
        (below.components().count() > 1)
            .then(|| below.components().next().map(|c| c.as_os_str().to_string_lossy().into_owned()))?
    };
    let tops: Option<Vec<String>> = items.iter().map(first).collect();
    let Some(tops) = tops else { return Ok((items, vec![])) };
    let mut classes = tops.clone();
    classes.sort();
    classes.dedup();
    for (item, top) in items.iter_mut().zip(&tops) {
        item.label = classes.binary_search(top).ok().map(|c| c as u32);
    }
    Ok((items, classes))
}

/// Adds the items in a folder and below it, in sorted order.
fn walk(folder: &Path, source: Source, depth: usize, items: &mut Vec<Item>) -> Result<()> {
    let fail = |e: std::io::Error| Error::io("read the folder", folder, e);
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        paths.push(entry.map_err(fail)?.path());
    }
    paths.retain(|p| !is_hidden(p));
    paths.sort();
    let mut pictures = false;
    for path in paths {
        // What vanished meanwhile, or a link to nowhere, is not there.
        let Ok(data) = fs::metadata(&path) else { continue };
        if data.is_dir() {
            if depth == MAX_DEPTH {
                return Err(Error::failed(format!(
                    "folders are nested more than {MAX_DEPTH} deep at `{}`; is a link part of a loop?",
                    path.display()
                )));
            }
            walk(&path, source, depth + 1, items)?;
            continue;
        }
        match (media_of(&path), source) {
            (Some(Media::Picture), Source::Video) => pictures = true,
            (Some(media), _) => items.push(Item { path, label: None, media }),
            (None, _) => {}
        }
    }
    if pictures {
        items.push(Item { path: folder.to_path_buf(), label: None, media: Media::Frames });
    }
    Ok(())
}

// ---- lists ----

fn list(path: &Path) -> Result<Vec<Item>> {
    let text = fs::read_to_string(path).map_err(|e| {
        let cure = "a list is text with `PATH LABEL` a line; a video file has an ending such as `.mp4`";
        Error::failed(format!("cannot read the list `{}`: {e}; {cure}", path.display()))
    })?;
    let base = path.parent().unwrap_or(Path::new(""));
    let mut lines =
        text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())).filter(|(_, l)| !l.is_empty() && !l.starts_with('#'));
    let columns = lines.clone().next().and_then(|(_, l)| header(l));
    if columns.is_some() {
        lines.next();
    }
    let mut items = Vec::new();
    let mut missing = Vec::new();
    for (number, line) in lines {
        let at = |what: String| Error::failed(format!("`{}`, line {number}: {what}", path.display()));
        let (file, label) = match &columns {
            Some(columns) => columns.split(line).map_err(at)?,
            None => published(line).map_err(at)?,
        };
        match find(base, Path::new(&file)) {
            Some((path, media)) => items.push(Item { path, label, media }),
            None => missing.push((number, file)),
        }
    }
    if !missing.is_empty() {
        return Err(missing_files(path, base, &missing, items.len() + missing.len()));
    }
    if items.is_empty() {
        return Err(Error::failed(format!("the list `{}` is empty; expected `PATH LABEL` a line", path.display())));
    }
    Ok(items)
}

fn missing_files(list: &Path, base: &Path, missing: &[(usize, String)], all: usize) -> Error {
    let named: Vec<String> = missing.iter().take(NAMED).map(|(line, file)| format!("line {line} `{file}`")).collect();
    let more = if missing.len() > NAMED { ", ..." } else { "" };
    let base = if base.as_os_str().is_empty() { Path::new(".") } else { base };
    Error::failed(format!(
        "the list `{}` names {} file{} that {} not there, of {all}: {}{more}; paths count from `{}`; correct or remove \
         the lines",
        list.display(),
        missing.len(),
        if missing.len() == 1 { "" } else { "s" },
        if missing.len() == 1 { "is" } else { "are" },
        named.join(", "),
        base.display(),
    ))
}

/// The file of a line, and how it is read.
fn find(base: &Path, file: &Path) -> Option<(PathBuf, Media)> {
    for path in [base.join(file), file.to_path_buf()] {
        let Ok(data) = fs::metadata(&path) else { continue };
        let media = if data.is_dir() { Media::Frames } else { media_of(&path).unwrap_or(Media::Video) };
        return Some((path, media));
    }
    None
}

/// `PATH LABEL`, `PATH` or `"PATH" LABEL`.
fn published(line: &str) -> std::result::Result<(String, Option<u32>), String> {
    let unquote = |p: &str| {
        let p = p.trim();
        p.strip_prefix('"').and_then(|q| q.strip_suffix('"')).unwrap_or(p).to_string()
    };
    match line.rsplit_once(char::is_whitespace) {
        None => Ok((unquote(line), None)),
        Some((path, last)) => match last.parse::<u32>() {
            Ok(label) => Ok((unquote(path), Some(label))),
            // A path with spaces and no label ends like a file.
            Err(_) if line.starts_with('"') && line.ends_with('"') || Path::new(last).extension().is_some() => {
                Ok((unquote(line), None))
            }
            Err(_) => Err(format!("the label `{last}` is not a whole number; number the classes from 0")),
        },
    }
}

/// Places of the columns of a comma-separated list.
struct Columns {
    path: usize,
    label: Option<usize>,
}

/// The columns, if the line is a header.
fn header(line: &str) -> Option<Columns> {
    let names: Vec<String> = fields(line).iter().map(|f| f.to_ascii_lowercase()).collect();
    let path = names.iter().position(|n| n == "path")?;
    Some(Columns { path, label: names.iter().position(|n| n == "label") })
}

impl Columns {
    fn split(&self, line: &str) -> std::result::Result<(String, Option<u32>), String> {
        let fields = fields(line);
        let field = |place: usize| fields.get(place).map(String::as_str).unwrap_or("");
        let path = field(self.path);
        if path.is_empty() {
            return Err("there is no path; expected one where the header says `path`".into());
        }
        let label = self.label.map(field).filter(|l| !l.is_empty());
        let number = |l: &str| {
            l.parse().map_err(|_| format!("the label `{l}` is not a whole number; number the classes from 0"))
        };
        Ok((path.to_string(), label.map(number).transpose()?))
    }
}

/// The fields of a comma-separated line; `""` in a quoted field is a quote.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(c) = letters.next() {
        let field = fields.last_mut().expect("there is a first field");
        match c {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.trim().is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    fields.into_iter().map(|f| f.trim().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with empty files of these paths.
    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for f in files {
            let path = root.path().join(f);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    /// `path label media` of each item, paths below the root.
    fn show(root: &Path, path: &Path, source: Source) -> Vec<String> {
        let index = Index::read("x", path, source).unwrap();
        let label = |l: Option<u32>| l.map_or("-".to_string(), |l| l.to_string());
        let line = |i: &Item| {
            let below = i.path.strip_prefix(root).unwrap().display().to_string();
            format!("{below} {} {:?}", label(i.label), i.media)
        };
        index.items.iter().map(line).collect()
    }

    fn error(path: &Path) -> String {
        Index::read("x", path, Source::Video).unwrap_err().to_string()
    }

    #[test]
    fn folders() {
        let t = tree(&["b.mp4", "a.MKV", "sub/c.webm", "notes.txt", ".hidden.mp4"]);
        let all = ["a.MKV - Video", "b.mp4 - Video", "sub/c.webm - Video"];
        assert_eq!(show(t.path(), t.path(), Source::Video), all);

        let t = tree(&["run/x.mp4", "jump/deep/y.avi", "jump/z.mp4", "README.md"]);
        let all = ["jump/deep/y.avi 0 Video", "jump/z.mp4 0 Video", "run/x.mp4 1 Video"];
        assert_eq!(show(t.path(), t.path(), Source::Video), all);
        assert_eq!(Index::read("x", t.path(), Source::Video).unwrap().classes, ["jump", "run"]);
    }

    #[test]
    fn pictures_are_frames_of_a_video_source_and_items_of_an_image_source() {
        let t = tree(&["v1/f10.jpg", "v1/f2.jpg", "v2/f1.png"]);
        assert_eq!(show(t.path(), t.path(), Source::Video), ["v1 - Frames", "v2 - Frames"]);
        let pictures = ["v1/f10.jpg 0 Picture", "v1/f2.jpg 0 Picture", "v2/f1.png 1 Picture"];
        assert_eq!(show(t.path(), t.path(), Source::Image), pictures);
        let frames = frame_files(&t.path().join("v1")).unwrap();
        assert_eq!(frames, [t.path().join("v1/f2.jpg"), t.path().join("v1/f10.jpg")]);

        let t = tree(&["c1/v1/1.jpg", "c2/v2/1.jpg"]);
        assert_eq!(show(t.path(), t.path(), Source::Video), ["c1/v1 0 Frames", "c2/v2 1 Frames"]);
    }

    #[test]
    fn lists() {
        let t = tree(&["a.mp4", "sub/b c.avi", "d.mp4"]);
        let list = t.path().join("list.csv");
        fs::write(&list, "a.mp4 3\n\n# note\nsub/b c.avi 0\r\n\"d.mp4\" 1\nd.mp4\n").unwrap();
        let all = ["a.mp4 3 Video", "sub/b c.avi 0 Video", "d.mp4 1 Video", "d.mp4 - Video"];
        assert_eq!(show(t.path(), &list, Source::Video), all);

        fs::write(&list, "label,path,other\n3,a.mp4,x\n,\"sub/b c.avi\",\n").unwrap();
        assert_eq!(show(t.path(), &list, Source::Video), ["a.mp4 3 Video", "sub/b c.avi - Video"]);
        assert_eq!(fields("a,\"b \"\"c\"\", d\",e"), ["a", "b \"c\", d", "e"]);
    }

    #[test]
    fn missing_files_are_named_with_their_lines() {
        let t = tree(&["a.mp4"]);
        let list = t.path().join("list.txt");
        fs::write(&list, "a.mp4 0\nb.mp4 1\nc.mp4 1\nd.mp4 2\ne.mp4 0\n").unwrap();
        let text = error(&list).replace(&t.path().display().to_string(), "ROOT");
        assert_eq!(
            text,
            "the list `ROOT/list.txt` names 4 files that are not there, of 5: line 2 `b.mp4`, line 3 `c.mp4`, \
             line 4 `d.mp4`, ...; paths count from `ROOT`; correct or remove the lines"
        );
        fs::write(&list, "a.mp4 cat\n").unwrap();
        assert!(error(&list).ends_with("line 1: the label `cat` is not a whole number; number the classes from 0"));
        fs::write(&list, "# nothing\n").unwrap();
        assert!(error(&list).ends_with("is empty; expected `PATH LABEL` a line"));
        fs::write(&list, [0xff, 0xfe, 0]).unwrap();
        assert!(error(&list).contains("a list is text with `PATH LABEL` a line"));
    }

    #[test]
    fn folders_without_videos_are_errors() {
        let t = tree(&["readme.txt"]);
        assert!(error(t.path()).starts_with("no video in the folder `"), "{}", error(t.path()));
        assert!(error(&t.path().join("none")).ends_with("give a list or a folder of videos"));
    }
}
