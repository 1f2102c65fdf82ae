//! The file of rules.

use std::{fs, path::PathBuf, time::Duration};

use limiter::{Error, Expected, Origin};
use serde_json::json;

use crate::world::{Engine, World, per_user, principal, project, rules};

struct Files {
    world: World,
    folder: tempfile::TempDir,
    written: u32,
}

impl Files {
    async fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::new(Engine::Sqlite).await;
        world.config.rules_file = folder.path().join("rules.toml").display().to_string();
        let mut this = Self { world, folder, written: 0 };
        this.write(text);
        this
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("rules.toml")
    }

    /// Each time of another length, whatever the clock of the file system.
    fn write(&mut self, text: &str) {
        self.written += 1;
        fs::write(self.path(), format!("{text}\n{}", "#".repeat(self.written as usize))).unwrap();
    }
}

fn text(limit: u32) -> String {
    format!(
        "[[domains]]\ndomain = \"api\"\n[[domains.rules]]\nname = \"per-user\"\nkeys = [{{ key = \"user\" }}]\n\
         limit = {{ algorithm = \"fixed_window\", limit = {limit}, window = \"1m\" }}"
    )
}

#[tokio::test]
async fn a_changed_file_holds_and_a_wrong_one_changes_nothing() {
    let mut files = Files::new(&text(2)).await;
    let node = files.world.node().await;
    assert_eq!(node.allowed(&[("user", "a")], 9).await, 2);
    files.write(&text(5));
    assert!(node.limiter.refresh_file().await);
    assert!(!node.limiter.refresh_file().await, "it is as it was");
    assert_eq!(node.allowed(&[("user", "a")], 9).await, 3, "what was counted stays");
    for (wrong, told) in [
        (text(5).replace("limit = 5", "limit = -5"), "domains[0].rules[0].limit.limit"),
        (text(5).replace("window", "windows"), "windows"),
        (text(5).replace("\"1m\"", "\"1 fortnight\""), "domains[0].rules[0].limit.window: expected a time"),
        ("[[domains]".to_owned(), "rules.toml"),
    ] {
        files.write(&wrong);
        assert!(!node.limiter.refresh_file().await);
        let trouble = node.limiter.stats(&project()).file_trouble.unwrap();
        assert!(trouble.contains(told), "{trouble}");
        assert!(node.limiter.trouble().is_some());
        assert_eq!(node.metric("rules_file_stale"), 1);
        assert_eq!(node.limiter.rules(&project(), "api").await.unwrap().rules, rules(json!([per_user(5)])));
        // A node that starts now has no rules that could stay.
        assert_eq!(files.world.open().await.map(drop).unwrap_err().code.name, "LIMITER_RULES_FILE_INVALID");
    }
    fs::remove_file(files.path()).unwrap();
    assert!(!node.limiter.refresh_file().await && node.limiter.trouble().is_some());
    assert_eq!(node.allowed(&[("user", "b")], 9).await, 5);
    files.write(&text(6));
    assert!(node.limiter.refresh_file().await);
    assert_eq!((node.limiter.trouble(), node.metric("rules_file_stale")), (None, 0));
    assert_eq!(node.allowed(&[("user", "c")], 9).await, 6);
}

#[tokio::test]
async fn the_background_reads_it_within_a_second() {
    let mut files = Files::new(&text(2)).await;
    let node = files.world.node().await;
    node.limiter.start(&files.world.lifecycle.tasks(kernel::Stage::Blocks));
    files.write(&text(7));
    let mut ticks = 0;
    crate::world::eventually("the new rules hold", || {
        ticks += 1;
        files.world.sim.advance(Duration::from_millis(100));
        let limiter = node.limiter.clone();
        async move { limiter.rules(&project(), "api").await.unwrap().rules[0].limit.limit == 7 }
    })
    .await;
    assert!(ticks >= 10, "the clock moved a second at least");
}

#[tokio::test]
async fn what_is_in_the_file_is_not_changed_elsewhere() {
    let mut files = Files::new("").await;
    let node = files.world.node().await;
    let who = principal("default");
    let put =
        async |limit| node.limiter.put_rules(&who, "api", rules(json!([per_user(limit)])), "", Expected::Any).await;
    put(3).await.unwrap();
    files.write(&text(2));
    node.limiter.refresh_file().await;
    let set = node.limiter.rules(&project(), "api").await.unwrap();
    assert_eq!((set.origin, set.version, set.written), (Origin::File, 0, None));
    assert!(matches!(put(4).await, Err(Error::RulesInFile)));
    let back = node.limiter.roll_back(&who, "api", 1, "", Expected::Any).await;
    assert!(matches!(back, Err(Error::RulesInFile)));
    assert_eq!(node.allowed(&[("user", "a")], 9).await, 2);
    // Out of the file: those of the database hold again.
    files.write("");
    node.limiter.refresh_file().await;
    assert_eq!(node.limiter.rules(&project(), "api").await.unwrap().origin, Origin::Database);
    assert_eq!(node.allowed(&[("user", "a")], 9).await, 1);
    put(4).await.unwrap();
}
