use std::path::PathBuf;

use nix::unistd::{Uid, User};

/// Whether the tests run as root, which PostgreSQL and Chromium's sandbox refuse.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// The path of a program: PATH first, then where Debian keeps PostgreSQL's and the system's servers.
///
/// # Panics
/// When it is nowhere; the message names the Debian package.
pub fn binary(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from));
    // The newest major version first.
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let server_first = matches!(name, "postgres" | "initdb" | "psql" | "pg_ctl");
    let servers = versions.into_iter().map(|(_, bin)| bin);
    if server_first {
        folders.splice(0..0, servers);
    } else {
        folders.extend(servers);
    }
    folders.into_iter().map(|f| f.join(name)).find(|p| p.is_file()).unwrap_or_else(|| {
        panic!(
            "`{name}` is not installed: it is in Debian's package `{}`; `cargo xtask setup` installs it",
            package(name)
        )
    })
}

fn package(name: &str) -> &str {
    match name {
        "postgres" | "initdb" | "psql" | "pg_ctl" => "postgresql",
        "redis-server" => "redis-server",
        "redis-cli" => "redis-tools",
        "h2load" => "nghttp2-client",
        "chromedriver" => "chromium-driver",
        "schemathesis" => "python3-venv (and then PyPI)",
        other => other,
    }
}

/// Whom a server that refuses root runs as: nobody else when we are not root, else Debian's `postgres`.
pub(crate) fn servant() -> Option<(u32, u32)> {
    if !is_root() {
        return None;
    }
    let user = User::from_name("postgres").ok().flatten().unwrap_or_else(|| {
        panic!("there is no user `postgres`: Debian's package `postgresql` makes it; `cargo xtask setup` installs it")
    });
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package_and_the_remedy() {
        let error = std::panic::catch_unwind(|| binary("surely-not-installed")).unwrap_err();
        let text = error.downcast_ref::<String>().unwrap();
        assert!(text.contains("package `surely-not-installed`") && text.contains("cargo xtask setup"), "{text}");
        assert_eq!(package("initdb"), "postgresql");
    }
}
