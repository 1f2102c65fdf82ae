//! The contrast of the stylesheet's colours, by WCAG 2.2's formula, in both themes.

use std::collections::BTreeMap;

use console::assets;

/// Text on ground. AA asks for 4.5 : 1.
const TEXT: &[(&str, &str)] = &[
    ("ink", "bg"),
    ("ink", "rail"),
    ("ink", "raised"),
    ("ink", "hover"),
    ("ink", "code"),
    ("ink", "tint"),
    ("soft", "bg"),
    ("soft", "rail"),
    ("soft", "raised"),
    ("soft", "hover"),
    ("soft", "code"),
    ("accent", "bg"),
    ("accent", "raised"),
    ("accent", "rail"),
    ("accent", "hover"),
    ("accent", "tint"),
    ("on-accent", "accent"),
    ("ok", "bg"),
    ("ok", "ok-tint"),
    ("ok", "raised"),
    ("warn", "bg"),
    ("warn", "warn-tint"),
    ("warn", "raised"),
    ("bad", "bg"),
    ("bad", "bad-tint"),
    ("bad", "raised"),
];

/// Shapes and lines on ground. AA asks for 3 : 1 (1.4.11).
const SHAPES: &[(&str, &str)] = &[
    ("s0", "bg"),
    ("s1", "bg"),
    ("s2", "bg"),
    ("s3", "bg"),
    ("s4", "bg"),
    ("s5", "bg"),
    ("s6", "bg"),
    ("s7", "bg"),
    ("none", "bg"),
    ("none", "rail"),
    ("ok", "rail"),
    ("warn", "rail"),
    ("bad", "rail"),
    ("ok", "tint"),
    ("warn", "tint"),
    ("bad", "tint"),
];

fn stylesheet() -> &'static str {
    std::str::from_utf8(assets::ALL[0].bytes).unwrap()
}

/// `--name: light-dark(#rrggbb, #rrggbb)`.
fn colours() -> BTreeMap<&'static str, [&'static str; 2]> {
    stylesheet()
        .split("--")
        .filter_map(|part| {
            let (name, value) = part.split_once(": light-dark(")?;
            let (light, dark) = value.split_once(')')?.0.split_once(", ")?;
            (light.starts_with('#') && dark.starts_with('#')).then_some((name, [light, dark]))
        })
        .collect()
}

fn luminance(colour: &str) -> f64 {
    let channel = |at: usize| {
        let c = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

fn contrast(a: &str, b: &str) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

#[test]
fn the_formula_is_the_standards() {
    assert!((contrast("#000000", "#ffffff") - 21.0).abs() < 1e-9);
    assert!((contrast("#777777", "#ffffff") - 4.48).abs() < 0.01);
}

#[test]
fn both_themes_reach_aa() {
    let colours = colours();
    assert!(colours.len() >= 26, "read {} colours", colours.len());
    for (least, pairs) in [(4.5, TEXT), (3.0, SHAPES)] {
        for (front, ground) in pairs {
            for (theme, name) in ["light", "dark"].into_iter().enumerate() {
                let ratio = contrast(colours[front][theme], colours[ground][theme]);
                assert!(ratio >= least, "{front} on {ground} in the {name} theme: {ratio:.2} : 1");
            }
        }
    }
}

#[test]
fn every_colour_is_a_variable() {
    let rules = stylesheet().split_once("/* Ground */").unwrap().1;
    for (at, line) in rules.lines().enumerate() {
        let colour = line
            .split(['#'])
            .skip(1)
            .any(|rest| rest.len() >= 3 && rest.bytes().take(3).all(|b| b.is_ascii_hexdigit()));
        assert!(!colour && !line.contains("rgb("), "line {at} of the rules names a colour: {line}");
    }
    // Every variable that is used is declared.
    for used in rules.split("var(--").skip(1) {
        let name = used.split(')').next().unwrap();
        assert!(stylesheet().contains(&format!("--{name}:")), "--{name} is not declared");
    }
}

#[test]
fn nothing_moves_for_longer_than_150_ms() {
    for moving in ["animation", "@keyframes", "transition"] {
        assert!(!stylesheet().contains(moving), "{moving} needs a bound: extend this test");
    }
}
