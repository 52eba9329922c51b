"""What characters are built of: KanjiVG, trees and codes of it, held-out classes. May import `files`, `characters`."""
