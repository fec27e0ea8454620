defmodule Image.ZeroShot.FuzzTest do
  use ExUnit.Case, async: true

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
