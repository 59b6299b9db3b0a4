"""What run directories hold, read and checked: anybody may have altered a file since."""
