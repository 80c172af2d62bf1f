# /// script
# requires-python = '>=3.9'
# dependencies = [
#   'alpha==77',
#   'beta',
# ]
# ///
print(1)
