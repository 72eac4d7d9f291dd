//! A disk in memory that loses power and breaks, for tests alone.
//!
//! It knows the two things that make files fragile: content that is written but not synced may be there in part, and so
//! may names. A *crash* keeps a random part of both; what was synced stays.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use rand::Rng;
use rand::rngs::SmallRng;

use super::disk::Disk;

#[derive(Debug, Default, Clone)]
struct Content {
    bytes: Vec<u8>,
    synced: usize,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(String, usize),
    Gone(String),
}

/// What breaks, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Break {
    /// Nothing.
    Never,
    /// Every changing call from this one on has no effect, but for a part of a write: the power is cut.
    PowerAt(u64),
    /// So many changing calls from now on fail with this error number.
    Errors(u64, i32),
}

#[derive(Debug)]
struct World {
    contents: Vec<Content>,
    names: HashMap<String, usize>,
    synced_names: HashMap<String, usize>,
    changes: Vec<NameChange>,
    calls: u64,
    breaks: Break,
}

/// A handle on the disk; clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk(Rc<RefCell<World>>);

impl SimDisk {
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(World {
            contents: Vec::new(),
            names: HashMap::new(),
            synced_names: HashMap::new(),
            changes: Vec::new(),
            calls: 0,
            breaks: Break::Never,
        })))
    }

    pub fn breaks(&self, breaks: Break) {
        self.0.borrow_mut().breaks = breaks;
    }

    pub fn calls(&self) -> u64 {
        self.0.borrow().calls
    }

    /// The power comes back.
    pub fn crash(&self, random: &mut SmallRng) {
        let mut world = self.0.borrow_mut();
        let mut names = world.synced_names.clone();
        let kept = random.random_range(0..=world.changes.len());
        for change in &world.changes[..kept] {
            apply(&mut names, change.clone());
        }
        for content in &mut world.contents {
            let kept = random.random_range(content.synced..=content.bytes.len());
            content.bytes.truncate(kept);
            // What was not synced may also be there as something else.
            if kept > content.synced && random.random_bool(0.3) {
                let from = random.random_range(content.synced..kept);
                content.bytes[from..].fill(if random.random_bool(0.5) { 0 } else { 0xa5 });
            }
            content.synced = content.bytes.len();
        }
        world.names = names.clone();
        world.synced_names = names;
        world.changes.clear();
        world.breaks = Break::Never;
    }

    pub fn files(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<_> = self.0.borrow().names.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        names.sort();
        names
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let world = self.0.borrow();
        world.contents[world.names[name]].bytes.clone()
    }

    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.0.borrow_mut();
        let file = world.names[name];
        edit(&mut world.contents[file].bytes);
        world.contents[file].synced = world.contents[file].bytes.len();
    }

    /// Counts a changing call; an error where it must fail.
    fn call(&self) -> io::Result<()> {
        let mut world = self.0.borrow_mut();
        world.calls += 1;
        let calls = world.calls;
        match &mut world.breaks {
            Break::Never => Ok(()),
            Break::PowerAt(at) if calls >= *at => Err(io::Error::other("the power is cut")),
            Break::PowerAt(_) => Ok(()),
            Break::Errors(0, _) => Ok(()),
            Break::Errors(left, number) => {
                *left -= 1;
                Err(io::Error::from_raw_os_error(*number))
            }
        }
    }

    fn change(&self, change: NameChange) {
        let mut world = self.0.borrow_mut();
        apply(&mut world.names, change.clone());
        world.changes.push(change);
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.0.borrow().names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn apply(names: &mut HashMap<String, usize>, change: NameChange) {
    match change {
        NameChange::Set(name, file) => {
            names.retain(|_, old| *old != file);
            names.insert(name, file);
        }
        NameChange::Gone(name) => {
            names.remove(&name);
        }
    }
}

impl Disk for SimDisk {
    type File = usize;

    fn prepare(&mut self) -> io::Result<()> {
        self.call()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.borrow().names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.find(name).map(|_| self.bytes(name))
    }

    fn create(&self, name: &str) -> io::Result<usize> {
        self.call()?;
        assert!(self.find(name).is_err(), "{name} is there already");
        let file = self.0.borrow().contents.len();
        self.0.borrow_mut().contents.push(Content::default());
        self.change(NameChange::Set(name.to_owned(), file));
        Ok(file)
    }

    fn write(&self, file: &mut usize, bytes: &[u8]) -> io::Result<()> {
        let result = self.call();
        // Half of it gets there, as with a full disk.
        let written = if result.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        self.0.borrow_mut().contents[*file].bytes.extend_from_slice(written);
        result
    }

    fn sync(&self, file: &mut usize) -> io::Result<()> {
        self.call()?;
        let mut world = self.0.borrow_mut();
        let content = &mut world.contents[*file];
        content.synced = content.bytes.len();
        Ok(())
    }

    fn sync_named(&self, name: &str) -> io::Result<()> {
        self.sync(&mut self.find(name)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.call()?;
        let file = self.find(from)?;
        self.change(NameChange::Set(to.to_owned(), file));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.call()?;
        self.find(name)?;
        self.change(NameChange::Gone(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.call()?;
        let mut world = self.0.borrow_mut();
        world.synced_names = world.names.clone();
        world.changes.clear();
        Ok(())
    }
}
