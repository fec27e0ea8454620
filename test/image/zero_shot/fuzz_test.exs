defmodule Image.ZeroShot.FuzzTest do
  # Counts the atoms of the VM.
  use ExUnit.Case, async: false

  alias Image.ZeroShot.Test.Fuzz

  # A few seconds; `bin/fuzz` has the rest.
  @count 5_000

  for target <- [:labels, :classifier] do
    test "#{target} of any kind are taken or refused" do
      assert {@count, sound} = Fuzz.run(unquote(target), @count, 1)
      assert sound in 1..(@count - 1)
    end
  end
end
