//! An index as a file: what is kept, what a damaged file does, and what a process that is killed leaves.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clip::search::{Index, Storage};

use crate::support::*;

/// A folder of its own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("clip-index-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("all.index")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn kind(path: &Path) -> &'static str {
    Index::load(path, 1_000_000).unwrap_err().kind().as_str()
}

#[test]
fn a_file_keeps_everything() {
    let folder = Folder::new("keeps");
    let mut noise = Noise::new(5);
    for dim in [1, 96, 512] {
        let vectors: Vec<_> = (0..3000).map(|_| noise.vector(dim)).collect();
        for storage in STORAGES {
            let index = filled(storage, &vectors);
            index.delete((0..100).map(|i| id(i * 3)).collect::<Vec<_>>().iter().map(|id| &id[..]));
            index.save(&folder.file()).unwrap();
            let loaded = std::sync::Arc::new(Index::load(&folder.file(), 3000).unwrap());
            assert_eq!(loaded.settings().storage, storage);
            assert_eq!((loaded.model(), loaded.size()), (index.model(), 2900));
            let query = like(&vectors[17]);
            assert_eq!(nearest(&loaded, query.clone(), 3000), nearest(&index, query, 3000));
            // Once more, byte for byte.
            let before = fs::read(folder.file()).unwrap();
            loaded.save(&folder.file()).unwrap();
            assert!(fs::read(folder.file()).unwrap() == before);
        }
    }
    let names: Vec<_> = fs::read_dir(&folder.0).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["all.index"]);
}

#[test]
fn an_empty_index_is_a_file_too() {
    let folder = Folder::new("empty");
    empty(Storage::F16).save(&folder.file()).unwrap();
    let loaded = Index::load(&folder.file(), 10).unwrap();
    assert_eq!((loaded.size(), loaded.model()), (0, None));
    assert_eq!(loaded.settings().storage, Storage::F16);
}

#[test]
fn a_file_that_was_changed_or_cut_anywhere_is_an_error() {
    let folder = Folder::new("changed");
    for storage in STORAGES {
        let mut noise = Noise::new(5);
        let vectors: Vec<_> = (0..20).map(|_| noise.vector(24)).collect();
        filled(storage, &vectors).save(&folder.file()).unwrap();
        let whole = fs::read(folder.file()).unwrap();
        let read =
            |bytes: &[u8]| Index::read(bytes, bytes.len() as u64, 1000).map(|index| index.size());
        assert_eq!(read(&whole).unwrap(), 20);
        for at in 0..whole.len() {
            let error = read(&whole[..at]).unwrap_err();
            assert_eq!(error.kind().as_str(), "invalid_index_file", "cut at {at}");
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            let error = read(&changed).unwrap_err();
            assert_eq!(error.kind().as_str(), "invalid_index_file", "changed at {at}");
        }
        assert!(read(&[&whole[..], b"x"].concat()).is_err());
    }
}

#[test]
fn a_file_of_another_kind_is_an_error_in_words() {
    let folder = Folder::new("another");
    assert_eq!(kind(&folder.file()), "not_found");
    assert_eq!(kind(&folder.0), "io");
    fs::write(folder.file(), b"something else entirely, of more bytes").unwrap();
    let error = Index::load(&folder.file(), 10).unwrap_err();
    let expected = format!(
        "\"{}\": the file is not an index, or it is damaged: it begins otherwise; build it again",
        folder.file().display()
    );
    assert_eq!(error.to_string(), expected);
    filled(Storage::F32, &vec![vec![1.0]; 11]).save(&folder.file()).unwrap();
    assert_eq!(Index::load(&folder.file(), 10).unwrap_err().kind().as_str(), "index_full");
}

#[test]
fn a_place_that_cannot_be_written_is_an_error() {
    let folder = Folder::new("unwritable");
    let index = filled(Storage::F32, &[vec![1.0]]);
    let kind = |path: &Path| index.save(path).unwrap_err().kind().as_str();
    assert_eq!(kind(&folder.0.join("no/such/folder.index")), "not_found");
    fs::create_dir(folder.file()).unwrap();
    assert_eq!(kind(&folder.file()), "io");
    // A socket stands for all that are not files: as root, a save could replace /dev/null.
    let socket = folder.0.join("socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(kind(&socket), "io");
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    assert!(!folder.0.join("socket.saving").exists());
    assert!(!folder.0.join("all.index.saving").exists());
}

#[test]
fn one_at_a_time_saves_to_a_place_and_a_link_is_followed() {
    let folder = Folder::new("one");
    let index = filled(Storage::F32, &[vec![1.0]]);
    let beside = fs::File::create(folder.0.join("all.index.saving")).unwrap();
    beside.lock().unwrap();
    assert_eq!(index.save(&folder.file()).unwrap_err().kind().as_str(), "overloaded");
    drop(beside);
    index.save(&folder.file()).unwrap();
    let link = folder.0.join("link");
    std::os::unix::fs::symlink(folder.file(), &link).unwrap();
    filled(Storage::F32, &[vec![1.0], vec![1.0]]).save(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(Index::load(&folder.file(), 10).unwrap().size(), 2);
    // A link in the place of the file beside leads nowhere.
    std::os::unix::fs::symlink(&link, folder.0.join("all.index.saving")).unwrap();
    assert_eq!(index.save(&folder.file()).unwrap_err().kind().as_str(), "io");
    assert_eq!(Index::load(&folder.file(), 10).unwrap().size(), 2);
}

#[test]
fn a_file_keeps_its_permissions_and_one_with_another_name_is_not_overwritten() {
    let folder = Folder::new("alone");
    let index = filled(Storage::F32, &[vec![1.0]]);
    index.save(&folder.file()).unwrap();
    let private = fs::Permissions::from_mode(0o640);
    fs::set_permissions(folder.file(), private.clone()).unwrap();
    let other = folder.0.join("other");
    fs::write(&other, "somebody's file").unwrap();
    fs::hard_link(&other, folder.0.join("all.index.saving")).unwrap();
    index.save(&folder.file()).unwrap();
    assert_eq!(fs::read(&other).unwrap(), b"somebody's file");
    assert_eq!(Index::load(&folder.file(), 10).unwrap().size(), 1);
    let mode = fs::metadata(folder.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, private.mode());
}

#[test]
fn searches_and_changes_go_on_while_an_index_is_saved() {
    let folder = Folder::new("meanwhile");
    let mut noise = Noise::new(5);
    let vectors: Vec<_> = (0..2000).map(|_| noise.vector(128)).collect();
    let index = filled(Storage::F32, &vectors);
    std::thread::scope(|scope| {
        let saving = scope.spawn(|| (0..20).for_each(|_| index.save(&folder.file()).unwrap()));
        let mut at = 2000;
        while !saving.is_finished() {
            put(&index, at, &vectors[..2]).unwrap();
            index.delete([&id(at)[..], &id(at + 1)]);
            at += 2;
            let size = nearest(&index, like(&vectors[0]), 5000).len();
            assert_eq!(size, 2000);
        }
    });
    // A pair is there or not, in a file as well.
    assert!([2000, 2001, 2002].contains(&Index::load(&folder.file(), 5000).unwrap().size()));
}

/// The child of the test below: saves one state after the other until it is killed.
#[test]
fn saves_until_it_is_killed() {
    let Some(path) = std::env::var_os("CLIP_INDEX_SAVES_TO") else { return };
    let one = filled(Storage::F32, &vec![Noise::new(1).vector(512); 1500]);
    let two = filled(Storage::F32, &vec![Noise::new(2).vector(512); 1000]);
    for _ in 0..10_000 {
        one.save(path.as_ref()).unwrap();
        two.save(path.as_ref()).unwrap();
    }
}

#[test]
fn a_process_that_is_killed_while_it_saves_leaves_a_whole_file() {
    let folder = Folder::new("killed");
    filled(Storage::F32, &[vec![1.0]]).save(&folder.file()).unwrap();
    let mut noise = Noise::new(9);
    let mut unfinished = 0;
    for round in 0..60 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "files::saves_until_it_is_killed"])
            .env("CLIP_INDEX_SAVES_TO", folder.file())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // The first kills come while it starts, the others anywhere in a save.
        std::thread::sleep(Duration::from_micros((noise.even() * 200_000.0) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        let size = Index::load(&folder.file(), 5000).unwrap().size();
        assert!([1, 1000, 1500].contains(&size), "round {round}: {size}");
        unfinished += usize::from(folder.0.join("all.index.saving").exists());
    }
    println!("{unfinished} of 60 were killed within a save");
    assert!(unfinished > 5, "{unfinished}");
    // What is left over is no hindrance.
    filled(Storage::F32, &[vec![1.0]]).save(&folder.file()).unwrap();
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
}
