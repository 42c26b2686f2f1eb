"""What measuring leaves behind: measurements with their conditions, profiles of many, and their noise floor."""
