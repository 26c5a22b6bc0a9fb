//! Every model that we stand behind passes `check` and compiles, and compiling is reproducible.

use vjepa_tests::{root, scratch, vjepac};

#[test]
fn every_model_file_passes_check() {
    let mut files = 0;
    for entry in std::fs::read_dir(root().join("models")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "vjepa") {
            vjepac(&format!("check {}", path.display())).succeeded();
            files += 1;
        }
    }
    assert!(files >= 7, "only {files} model files were found");
}

#[test]
fn compiling_twice_gives_the_same_bytes() {
    let dir = scratch();
    let mut programs = Vec::new();
    for name in ["a.vjc", "b.vjc"] {
        let out = dir.path().join(name);
        vjepac(&format!("compile models/vjepa-vitl16.vjepa -o {}", out.display())).succeeded();
        programs.push(std::fs::read(out).unwrap());
    }
    assert!(programs[0] == programs[1]);
}

#[test]
fn the_resolved_model_compiles_to_the_same_graphs() {
    let dir = scratch();
    for (file, set) in [
        ("models/tiny.vjepa:tiny", "--set encoder.dim=96"),
        ("models/masking.vjepa:moving", ""),
        ("examples/variants/registers.vjepa:with_cls", "--set encoder.depth=1"),
        ("examples/variants/divided-attention.vjepa:ts", "--set encoder.depth=1 --set head.pooler.heads=4"),
        ("examples/variants/vjepa21.vjepa:vjepa21", "--set encoder.depth=24"),
    ] {
        let (first, second, text) = (dir.path().join("1.vjc"), dir.path().join("2.vjc"), dir.path().join("r.vjepa"));
        vjepac(&format!("compile {file} {set} -o {}", first.display())).succeeded();
        let program = vjepac::program::Program::read(&std::fs::read(&first).unwrap()).unwrap();
        std::fs::write(&text, &program.resolved).unwrap();
        vjepac(&format!("compile {}:{} -o {}", text.display(), program.name, second.display())).succeeded();
        let again = vjepac::program::Program::read(&std::fs::read(&second).unwrap()).unwrap();
        assert_eq!(program.tables, again.tables);
        for entry in vjepac::program::Entry::ALL {
            let print = |p: &vjepac::program::Program| vjepac::ir::print::print(p.entry(entry));
            assert!(print(&program) == print(&again), "{file}: entry {} differs", entry.name());
        }
    }
}
