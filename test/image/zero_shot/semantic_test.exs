defmodule Image.ZeroShot.SemanticTest do
  # Answers have to be right, not only well formed: pictures that the embedded model was not
  # trained on, drawn by another program than its training pictures.
  use ExUnit.Case, async: true

  alias Image.ZeroShot
  alias Image.ZeroShot.Test.JSON

  @folder "test/fixtures/emoji"
  @opts [repo: :embedded, device: :cpu]

  test "label/3 is right for 19 of 20 pictures among ten names" do
    pictures = JSON.read!(Path.join(@folder, "labels.json"))
    assert length(pictures) == 200

    wrong =
      for %{"file" => file, "label" => label, "candidates" => candidates} <- pictures,
          assert(length(candidates) == 10 and label in candidates),
          answer = ZeroShot.label({:path, Path.join(@folder, file)}, candidates, @opts),
          answer != label,
          do: {file, label, answer}

    assert length(wrong) <= 10, "#{length(wrong)} of 200 are wrong: #{inspect(wrong)}"
  end
end
