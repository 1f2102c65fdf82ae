//! Lines of each crate: code that ships, its tests, and comments.

use tidy::House;

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct Lines {
    code: usize,
    tests: usize,
    comments: usize,
}

pub(crate) fn print() -> Result<(), String> {
    let house = House::read(crate::root())?;
    println!("{:<24}{:>8}{:>8}{:>10}", "crate", "code", "tests", "comments");
    let mut total = Lines::default();
    for member in &house.crates {
        let mut sum = Lines::default();
        for (path, text) in house.rust_files(&member.folder) {
            let lines = count(text, path.starts_with(&format!("{}/tests/", member.folder)));
            sum = add(sum, lines);
        }
        total = add(total, sum);
        println!("{:<24}{:>8}{:>8}{:>10}", member.folder, sum.code, sum.tests, sum.comments);
    }
    println!("{:<24}{:>8}{:>8}{:>10}", "total", total.code, total.tests, total.comments);
    Ok(())
}

fn add(a: Lines, b: Lines) -> Lines {
    Lines { code: a.code + b.code, tests: a.tests + b.tests, comments: a.comments + b.comments }
}

fn count(text: &str, is_test: bool) -> Lines {
    let mut lines = Lines::default();
    let mut in_tests = is_test;
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        in_tests |= line == "#[cfg(test)]";
        if line.starts_with("//") {
            lines.comments += 1;
        } else if in_tests {
            lines.tests += 1;
        } else {
            lines.code += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_tests_and_comments_are_counted_apart() {
        let text = "//! Doc.\n\nfn f() {}\n#[cfg(test)]\nmod tests {\n    // why\n}\n";
        assert_eq!(count(text, false), Lines { code: 1, tests: 3, comments: 2 });
        assert_eq!(count(text, true).code, 0);
    }
}
