# /// script
# requires-python = '>=3.9'
# dependencies = [
#   'alpha==1.0',
#   'beta',
# ]
# ///
print(1)
