//! Tests of repositories, against the files of upstream and against what can go wrong.

mod checking;
mod cleaning;
mod commit;
mod damage;
mod full_disk;
mod kill;
mod kinds;
mod resolving;
mod source_tree;
mod support;
mod syncing;
mod tagging;
mod vectors;
