//! `vjepac compile`: the program file, written whole or not at all.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::session::{Failure, Session};

/// Compiles and writes.
pub fn run(session: &mut Session, output: &Path, taps: bool) -> Result<(), Failure> {
    let (program, warnings) = session.compile(taps)?;
    session.report(&warnings);
    let bytes = program.write();
    write_whole(output, &bytes).map_err(|e| {
        Failure::File(format!("`{}` cannot be written: {}", output.display(), e.to_string().to_lowercase()))
    })?;
    eprintln!("{}: model `{}`, {} bytes", output.display(), program.name, bytes.len());
    Ok(())
}

/// Writes beside the target and renames, so that nobody ever reads half a file.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().ok_or_else(|| std::io::Error::other("this is not a file name"))?;
    let mut beside = name.to_os_string();
    beside.push(format!(".{}.part", std::process::id()));
    let beside = path.with_file_name(beside);
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_and_nothing_is_left_beside_them() {
        let folder = std::env::temp_dir().join(format!("vjepac-write-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.vjc");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert!(write_whole(&folder.join("missing/a.vjc"), b"x").is_err());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
