"""What users do to patched trees and patch sets: edits made into patches, sets moved on."""
