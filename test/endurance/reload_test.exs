defmodule Image.ZeroShot.Endurance.ReloadTest do
  use ExUnit.Case, async: false

  import Image.ZeroShot.Test.Figures

  alias Image.ZeroShot.Native
  alias Image.ZeroShot.Test.{FreshVM, Reload}

  @moduletag timeout: 300_000

  defp reload(times) do
    figures = FreshVM.call({Reload, :under_load, [embedded(), 16, times]}, [], 200_000)
    report("loaded anew #{times} times beside 16 callers: #{inspect(figures.answers)}")
    assert [{"dog", _count}] = Map.to_list(figures.answers)
    assert figures.same

    # What a native library belongs to stays as it is.
    assert {new, kept} = Map.pop(figures.modules, :new)
    assert new > 20 * times

    assert kept == %{
             {Native, :on_load_failure} => times,
             {Native.Torch, :on_load_failure} => times
           }
  end

  test "new code under load disturbs nobody", do: reload(2)

  @tag :endurance
  test "new code under load disturbs nobody, 50 times", do: reload(50)
end
