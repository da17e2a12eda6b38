"""What tests of demur share: networks and guards made once a process, fakes, and what runs pages and browsers."""
