//! The published families: every model has the published keys and, where it is known, the published count of weights.

use vjepa_tests::vjepac;

/// Stored tensors of a model: key, kind, shape.
fn tensors(model: &str) -> Vec<(String, String, Vec<usize>)> {
    let text = vjepac(&format!("keys {model} --json")).succeeded().stdout;
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    let one = |t: &serde_json::Value| {
        let shape = t["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        (t["key"].as_str().unwrap().to_string(), t["kind"].as_str().unwrap().to_string(), shape)
    };
    list.as_array().unwrap().iter().map(one).collect()
}

/// Weights of a field that are trained, or given and frozen.
fn count(tensors: &[(String, String, Vec<usize>)], field: &str) -> usize {
    let of = tensors.iter().filter(|(key, kind, _)| {
        key.strip_prefix(field).is_some_and(|rest| rest.starts_with('.'))
            && matches!(kind.as_str(), "trained" | "frozen")
    });
    of.map(|(_, _, shape)| shape.iter().product::<usize>()).sum()
}

/// Fails unless a field of a model has so many weights, and every key with its shape.
#[track_caller]
fn family(model: &str, counts: &[(&str, usize)], keys: &[(&str, &[usize])]) {
    let tensors = tensors(model);
    for (field, expected) in counts {
        assert_eq!(count(&tensors, field), *expected, "{model}: {field}");
    }
    for (key, shape) in keys {
        let found = tensors.iter().find(|t| t.0 == *key).map(|t| t.2.as_slice());
        assert_eq!(found, Some(*shape), "{model}: {key}");
    }
}

#[test]
fn v_jepa() {
    let sizes = [
        ("vjepa-sizes.vjepa:vjepa_vitt16", 5_633_856, None),
        ("vjepa-sizes.vjepa:vjepa_vits16", 21_884_544, None),
        ("vjepa-sizes.vjepa:vjepa_vitb16", 86_236_416, Some(21_886_080)),
        ("vjepa-vitl16.vjepa", 303_885_312, Some(22_082_944)),
        ("vjepa-vith16.vjepa", 631_648_000, Some(22_279_808)),
        ("vjepa-sizes.vjepa:vjepa_vitg16", 1_012_173_952, None),
    ];
    for (model, encoder, predictor) in sizes {
        let mut counts = vec![("encoder", encoder)];
        counts.extend(predictor.map(|n| ("predictor", n)));
        family(&format!("models/{model}"), &counts, &[]);
    }
    let keys: [(&str, &[usize]); 12] = [
        ("encoder.patch_embed.proj.weight", &[1024, 3, 2, 16, 16]),
        ("encoder.pos_embed", &[1, 1568, 1024]),
        ("encoder.blocks.23.attn.qkv.weight", &[3072, 1024]),
        ("encoder.blocks.23.mlp.fc2.bias", &[1024]),
        ("encoder.norm.weight", &[1024]),
        ("target_encoder.blocks.0.norm1.weight", &[1024]),
        ("predictor.predictor_embed.weight", &[384, 1024]),
        ("predictor.mask_tokens.1", &[1, 1, 384]),
        ("predictor.predictor_pos_embed", &[1, 1568, 384]),
        ("predictor.predictor_blocks.11.attn.proj.bias", &[384]),
        ("predictor.predictor_norm.bias", &[384]),
        ("predictor.predictor_proj.weight", &[1024, 384]),
    ];
    family("models/vjepa-vitl16.vjepa", &[], &keys);
}

#[test]
fn v_jepa_at_384_pixels() {
    family("models/vjepa-vith16-384.vjepa", &[("encoder", 631_648_000)], &[("encoder.pos_embed", &[1, 4608, 1280])]);
}

#[test]
fn v_jepa_2() {
    let keys: [(&str, &[usize]); 4] = [
        ("encoder.blocks.23.attn.qkv.weight", &[3072, 1024]),
        ("target_encoder.blocks.0.mlp.fc2.weight", &[1024, 4096]),
        ("predictor.mask_tokens.9", &[1, 1, 384]),
        ("predictor.predictor_blocks.11.attn.proj.weight", &[384, 384]),
    ];
    for (name, encoder) in [("vitl16", 303_885_312), ("vith16", 631_648_000), ("vitg16", 1_012_173_952)] {
        let model = format!("models/vjepa2.vjepa:vjepa2_{name}");
        family(&model, &[("encoder", encoder)], if name == "vitl16" { &keys } else { &[] });
        // Rotary positions leave no tables.
        assert!(tensors(&model).iter().all(|(key, ..)| !key.contains("pos_embed")), "{model}");
    }
    family("models/vjepa2.vjepa:vjepa2_vitl16_cooldown", &[("encoder", 303_885_312)], &[]);
}

#[test]
fn i_jepa() {
    let keys: [(&str, &[usize]); 3] = [
        ("encoder.pos_embed", &[1, 256, 1280]),
        ("predictor.mask_token", &[1, 1, 384]),
        ("predictor.predictor_blocks.11.mlp.fc1.weight", &[1536, 384]),
    ];
    family("models/ijepa.vjepa", &[], &keys);
}

#[test]
fn pixels_as_targets() {
    let pixel = 2 * 16 * 16 * 3;
    let keys: [(&str, &[usize]); 1] = [("predictor.predictor_proj.weight", &[pixel, 384])];
    family("models/pixels.vjepa:pixels", &[("encoder", 303_885_312)], &keys);
    let keys: [(&str, &[usize]); 1] = [("predictor.predictor_blocks.3.norm1.weight", &[512])];
    family("models/pixels.vjepa:videomae", &[("encoder", 303_885_312)], &keys);
}

#[test]
fn probes_and_fine_tuning() {
    let keys: [(&str, &[usize]); 5] = [
        ("head.pooler.query_tokens", &[1, 1, 1024]),
        ("head.pooler.cross_attention_block.xattn.kv.weight", &[2048, 1024]),
        ("head.pooler.cross_attention_block.xattn.proj.weight", &[1024, 1024]),
        ("head.pooler.cross_attention_block.mlp.fc1.bias", &[4096]),
        ("head.linear.weight", &[400, 1024]),
    ];
    family("models/probe-k400.vjepa:k400_probe", &[("encoder", 303_885_312), ("head", 13_007_248)], &keys);
    let keys: [(&str, &[usize]); 1] = [("head.linear.bias", &[400])];
    family("models/probe-k400.vjepa:k400_average", &[("head", 410_000)], &keys);
    family("models/probe-k400.vjepa:k400_finetune", &[("encoder", 303_885_312)], &[]);
}
