"""The hook before-activate of an app with a database: brings it to what this release needs, as the app's user, in the new
release's directory, while the old release still answers. What has been done is not done again; what fails leaves nothing."""

import sqlite3
import sys

# Steps are only ever added at the end. The release before this one goes on working after each of them: see "expand, then
# contract" in docs/zero-downtime.md.
STEPS = [
    "CREATE TABLE views (page TEXT NOT NULL)",
    # The old release writes rows without it, so that it has to have a default.
    "ALTER TABLE views ADD COLUMN country TEXT NOT NULL DEFAULT ''",
]


def migrate(path, steps):
    db = sqlite3.connect(path, timeout=30, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")  # one at a time, and all or nothing
    done = db.execute("PRAGMA user_version").fetchone()[0]
    for number, step in enumerate(steps[done:], start=done + 1):
        db.execute(step)
        db.execute(f"PRAGMA user_version = {number}")
        print(f"step {number} of {len(steps)} done")
    db.execute("COMMIT")
    db.close()


if __name__ == "__main__":
    # data/ is shared: a link to where the data outlives releases.
    try:
        migrate("data/app.db", STEPS)
    except sqlite3.Error as err:
        sys.exit(f"the database stays as it was: {err}")
