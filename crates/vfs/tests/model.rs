//! The view against the model: the same operations come to the same results and errors, over
//! random layers, with the end of the process, commits and resets between them.

use spfs_testkit::campaign::{Campaign, Statistics};
use spfs_testkit::layers::BaseStack;
use spfs_testkit::ops::Profile;
use spfs_testkit::pair::{Pair, Ticks};
use spfs_testkit::view::{Time, ViewSubject};

fn profile(controls: u32) -> Profile {
    Profile { controls, ..Profile::core() }
}

/// Names and inodes that every layer can hold, so that commits succeed.
fn committable(controls: u32) -> Profile {
    Profile { names: Profile::tame_names(), specials: false, devices: false, ..profile(controls) }
}

fn pair(base: BaseStack, profile: Profile) -> Pair<ViewSubject> {
    // A restart finds the time of a write on the scratch file, which the machine has stamped.
    let time = if profile.controls == 0 { Time::Ticks } else { Time::Machine };
    let ticks = Ticks::default();
    let model = ViewSubject::model_of(&base, &ticks);
    Pair::new(ViewSubject::new(base, time, ticks.clone()), model, ticks, profile)
}

fn run(ops: usize, profile: &Profile) -> Statistics {
    Campaign::from_env(ops, profile.clone()).run(|seed| {
        let base = BaseStack::random(seed);
        base.payloads.set_links(seed % 2 == 0);
        pair(base, profile.clone())
    })
}

#[test]
fn an_empty_view_behaves_like_the_model() {
    let profile = profile(0);
    Campaign::from_env(20_000, profile.clone()).run(|_| pair(BaseStack::new(&[]), profile.clone()));
}

#[test]
fn a_view_of_layers_behaves_like_the_model() {
    run(20_000, &profile(0));
}

#[test]
fn a_view_behaves_like_the_model_across_restarts_commits_and_resets() {
    run(20_000, &committable(25));
}

#[test]
fn a_view_with_things_no_layer_holds_behaves_like_the_model() {
    run(20_000, &profile(25));
}
