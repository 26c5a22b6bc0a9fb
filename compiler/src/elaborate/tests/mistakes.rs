//! Typical mistakes: code, message and place.

use super::*;

#[test]
fn the_corpus_of_mistakes_is_rejected() {
    for (name, want) in [
        ("e01", "V0101 `vit` has no setting called `deph` | deph"),
        ("e02", "V0101 `encoder` has no setting called `dpth` | dpth"),
        ("e03", "V0102 `multiblok` is not defined here | multiblok"),
        ("e04", "V0201 1024 channels do not split evenly into 12 heads | 12"),
        (
            "e05",
            "V0202 axis `rows` would have 14.9333 positions, which is not a whole number | clip.size / encoder.patch",
        ),
        ("e06", "V0301 `clip.size` is measured in px, not in frames | 16 frames"),
        ("e07", "V0203 `fc2` works on axis `hidden` (4096), which its input does not have | gelu(x)"),
        ("e08", "V0204 this tensor has no axis called `key` | key"),
        ("e09", "V0205 `-` would need an outer product of `context` and `target`"),
        ("e10", "V0206 `loss` must be one number, but it is a list of 2 numbers"),
        ("e13", "V0105 `loop` contains itself | inner(x)"),
        ("e16", "V0103 `vjepa_vitl16` has no field called `encodr` | encodr"),
        ("e17", "V0203 `predictor` works on axis `from` (512), which its input does not have"),
        ("e18", "V0103 `train` has no field called `stps` | stps"),
        ("e19", "V0302 `then` needs to know how long the schedule before it lasts | 0.99 -> 1.0"),
        ("e20", "V0203 `proj` works on axis `dim` (1024), which its input does not have | mix"),
    ] {
        match file(&format!("tests/corpus/errors/{name}.vjepa"), None, &[]) {
            Ok(_) => panic!("{name} was accepted"),
            Err(found) => assert!(found.starts_with(want), "{name}\n  wanted {want}\n  found  {found}"),
        }
    }
}

#[test]
fn mistakes_on_the_command_line_are_rejected() {
    for (path, value, want) in [
        ("encoder.depth", "12.5", "V0104 `encoder.depth` must be a whole number, but it is set to 12.5 | 12.5"),
        ("encoder.patch", "15", "V0202 axis `rows`"),
        ("clip.size", "64 frames", "V0301 `clip.size` is measured in px"),
        ("encodr.depth", "3", "V0103 `vjepa_vitl16` has no field called `encodr` | encodr"),
        ("encoder.ffn", "3", "V0104 `encoder.ffn` is a definition such as `mlp`, but it is set to a number | 3"),
        ("encoder.heads", "linear", "V0104 `encoder.heads` is a number (16), but it is set to"),
        ("train.precision", "\"fp8\"", "V0104 `train.precision` is \"f32\" or \"bf16\", found \"fp8\""),
        ("masks", "[]", "V0403 there is no mask to draw"),
        ("train.stps", "3", "V0103 `train` has no field called `stps`"),
        ("masks.2.area", "10%", "V0103 `masks` is a list of 2 items, so it has no `2`"),
    ] {
        match file(VITL16, None, &[(path, value)]) {
            Ok(_) => panic!("{path}={value} was accepted"),
            Err(found) => assert!(found.starts_with(want), "{path}={value}\n  wanted {want}\n  found  {found}"),
        }
    }
}

#[test]
fn names_and_fields() {
    assert!(wrong("loss = mean(encodr(image))").starts_with("V0102 `encodr` is not defined here"));
    assert!(wrong("loss = mean(encoder(image)) extra = 3").starts_with("V0107 nothing reads `extra`"));
    assert!(wrong("loss = mean(y) y = y + 1").starts_with("V0102 `y` is not defined here"));
    assert!(wrong("loss = a a = b b = a").starts_with("V0106"));
    assert!(wrong("loss = mean(encoder.norm(encoder(image))) loss = 1").starts_with("V0110 `loss` is defined twice"));
    assert!(wrong("loss = mean(encoder())").starts_with("V0108 `vit2d` needs an input `image`"));
    assert!(
        wrong("loss = linear(8 -> 8)(encoder(image))").contains("V0108 `w` is stored, so its block must have a name")
    );
}

#[test]
fn axes() {
    assert!(wrong("loss = mean[tokns](encoder(image))").starts_with("V0204 this tensor has no axis called `tokns`"));
    assert!(
        wrong("loss = mean[tokens](encoder(image))").starts_with("V0206 `loss` must be one number, but it is a tensor")
    );
    assert!(wrong("loss = mean(encoder(image), dim = 1)").starts_with("V0108 `mean` takes no settings by name"));
    assert!(wrong("loss = mean(encoder(image)[tokens -> (a: 3, b)])").starts_with("V0208"));
    assert!(wrong("loss = mean(encoder(image)[tokens = 16])").starts_with("V0204 axis `tokens` has 16 positions"));
    assert!(wrong("loss = mean(encoder(image)[(cols, rows) -> tokens])").starts_with("V0204"));
    assert!(wrong("loss = softmax(encoder(image))").starts_with("V0102 `softmax` is not defined here"));
    assert!(wrong("loss = mean(normalize(encoder(image)))").starts_with("V0111 `normalize` needs to know which axis"));
}

#[test]
fn numbers_and_units() {
    assert!(wrong("loss = mean(encoder(image)) * (3 px + 4 frames)").starts_with("V0301"));
    assert!(wrong("loss = mean(encoder(image)) * 3 apples").contains("V0303 `apples` is not a unit"));
    assert!(wrong("loss = 1 / 0").starts_with("V0104 division by zero"));
    assert!(wrong("loss = mean(encoder(image)) * (0 -> 1 over 3 over 4)").starts_with("V0304"));
}

#[test]
fn masks() {
    let with = |mask: &str| {
        let body = "loss = mean([ mean(encoder(image, z.context)) for z ~ [hide(tokens)] ])";
        let source = format!(
            "from std.image import vit2d
             mask hide(tokens: (rows, cols)) {{ {mask} }}
             model m {{ image = image(size = 8 px) tokens = (rows: 4, cols: 4) encoder = vit2d(tokens, patch = 2 px, dim = 8, depth = 1, heads = 2) {body} {TRAIN} }}"
        );
        text(&source, None, &[]).err().unwrap_or_default()
    };
    assert!(
        with("target = [ r < 2 for r in rows ] context = not target")
            .starts_with("V0402 `context` of mask `hide` says nothing for axis `cols`")
    );
    assert!(
        with("target = [ r < 2 for r in rows, c in cols ]")
            .starts_with("V0403 mask `hide` does not say what its `context` is")
    );
    assert!(
        with("x ~ 3..1, target = [ r < x for r in rows, c in cols ] context = not target")
            .starts_with("V0403 there is nothing between 3 and 1")
    );
    assert!(with("x ~ 0..3, target = [ r < x for r in rows, c in cols ] context = not target").is_empty());
    assert!(
        with("x ~ 0..3, y ~ 0..=x per batch target = [ r < y for r in rows, c in cols ] context = not target")
            .starts_with("V0403 `y` is one draw for the batch")
    );
}

#[test]
fn evaluation_that_goes_too_deep_is_an_error() {
    let sum = (0..200).map(|_| "(1 + ").collect::<String>();
    let found = wrong(&format!("loss = {sum}1{}", ")".repeat(200)));
    assert!(found.contains("too deeply nested"), "{found}");
    let many: String = (0..500).map(|i| format!("f{i} = f{} + 1,\n", i + 1)).collect();
    let found = wrong(&format!("{many} f500 = 1, loss = f0"));
    assert!(found.contains("too deeply nested"), "{found}");
}

#[test]
fn long_chains_of_definitions_are_an_error() {
    let last = 500;
    let fns: String = (0..last).map(|i| format!("fn f{i}(x) = f{}(x)\n", i + 1)).collect();
    let model = format!("model m {{ image = image(size = 8 px) loss = mean(f0(image)) {TRAIN} }}");
    let found = text(&format!("{fns} fn f{last}(x) = x\n {model}"), None, &[]).err().unwrap_or_default();
    assert!(found.contains("too deeply nested"), "{found}");
    let blocks: String =
        (0..last).map(|i| format!("block b{i}() {{ p = b{}() forward(x) = p(x) }}\n", i + 1)).collect();
    let model = format!("model m {{ image = image(size = 8 px) p = b0() loss = mean(p(image)) {TRAIN} }}");
    let found =
        text(&format!("{blocks} block b{last}() {{ forward(x) = x }}\n {model}"), None, &[]).err().unwrap_or_default();
    assert!(found.contains("too deeply nested"), "{found}");
    let settings: String = (0..last)
        .map(|i| format!("block b{i}(n = 1) {{ p = b{}(n = n + 1) d = p.n forward(x) = x * d }}\n", i + 1))
        .collect();
    let model = format!("model m {{ image = image(size = 8 px) p = b0() loss = mean(p(image)) {TRAIN} }}");
    let found = text(&format!("{settings} block b{last}(n = 1) {{ d = n forward(x) = x * d }}\n {model}"), None, &[]);
    assert!(found.err().unwrap_or_default().contains("too deeply nested"));
}

#[test]
fn lines_without_effect_are_errors() {
    assert!(
        wrong("loss = mean(encoder(image)) eval { every = 3 }").starts_with("V0107 nothing reads the section `eval`")
    );
    assert!(
        wrong("loss = mean(encoder(image)) require encoder.dim % 3 == 0 : \"{encoder} is even\"").starts_with("V0201")
    );
    assert!(wrong("u ~ 0..1, loss = mean(encoder(image)) * u").starts_with("V0403 `~` draws inside a mask only"));
    let found =
        wrong("p = linear with { metric x = 1 } q = p(encoder.dim -> encoder.dim) loss = mean(q(encoder(image)))");
    assert!(found.starts_with("V0103 block `linear` has no place for a metric"), "{found}");
}
